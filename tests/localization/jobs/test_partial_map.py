"""A map made of pieces is the map made at once, whoever makes them and however often."""

import hashlib

import numpy as np
import pytest

from jaxreloc.localization.jobs import partial_map
from jaxreloc.localization.jobs.partial_map import PartialMap, Piece, pieces_of
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.usage import UsageError
from tests.localization.fakes import oracle_frames
from tests.localization.map.large.test_catalogue import SavedOracle


def test_pieces_are_all_images_once_and_stay_within_segments(rng):
    for _ in range(50):
        count, size, segment = (int(x) for x in rng.integers(1, 60, 3))
        pieces = pieces_of(count, size, segment)
        assert [row for piece in pieces for row in piece.rows] == list(range(count))
        for piece in pieces:
            assert 1 <= piece.count <= size
            assert {row // segment for row in piece.rows} == {piece.segment}


def test_the_map_has_the_bytes_of_one_made_at_once(tmp_path, rng):
    count, segment, size = (int(x) for x in (rng.integers(5, 30), 7, rng.integers(1, 9)))
    frames, network = oracle_frames(rng, count), SavedOracle()
    parts = [
        encode_frames(frames.select(range(i, min(i + segment, count))), network)
        for i in range(0, count, segment)
    ]
    SceneMap.create(tmp_path / "one", network, parts)
    partial = PartialMap(tmp_path / "two", count, size, segment)
    with partial.opened({"of": 1}):
        order = rng.permutation(len(partial.pieces))
        for i in [*order, *order[: len(order) // 2]]:  # some twice
            partial.describe(partial.pieces[i], frames, network)
        assert partial.missing_pieces() == []
        for number in rng.permutation(partial.missing_segments()):
            partial.join(int(number), frames)
            partial.join(int(number), frames)
        assert partial.missing_pieces() == partial.missing_segments() == []
        partial.write_manifest(network, None)
        assert partial.missing_depths(network) == []
        partial.finish()
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert not partial.folder.exists()


def test_a_second_build_goes_on_or_is_refused(tmp_path, rng):
    frames, network = oracle_frames(rng, 6), SavedOracle()
    partial = PartialMap(tmp_path / "map", 6, 2, 4)
    with partial.opened({"of": "these"}):
        partial.describe(Piece(0, 1, 2, 2), frames, network)
        with pytest.raises(UsageError, match="another program is building it"):
            with partial.opened({"of": "these"}):
                pass
    with pytest.raises(UsageError, match="with other flags; give the same, or remove"):
        with partial.opened({"of": "others"}):
            pass
    with partial.opened({"of": "these"}):
        assert partial.missing_pieces() == [Piece(0, 0, 0, 2), Piece(1, 0, 4, 2)]
    (tmp_path / "map").mkdir()
    with pytest.raises(UsageError, match="exists"):
        with partial.opened({"of": "these"}):
            pass


def contents(folder) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_default_piece_divides_a_segment():
    assert partial_map.SEGMENT_SIZE % partial_map.PIECE_SIZE == 0
    assert np.unique([x.count for x in pieces_of(2048)]).tolist() == [partial_map.PIECE_SIZE]
