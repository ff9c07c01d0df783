import dataclasses
import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.data.loader import PairLoader
from jaxreloc.data.pairing.listed_pairs import pairs_from_list, read_listed_pairs
from jaxreloc.data.pairing.mined_pairs import make_pairs
from jaxreloc.formats.pair_lists import read_pair_list
from jaxreloc.usage import UsageError
from tests.data import seven_scenes
from tests.data.coloured_frames import every_pair, make_scenes


@pytest.fixture
def scenes(rng):
    return make_scenes(rng)


def as_list(scenes, pairs, translation_frame):
    """The rows of a list that says what `pairs` says."""
    columns = pairs.scene, pairs.db, pairs.query
    named = [
        (scenes[s].scene, f"/{scenes[s].names[d]}", scenes[s].names[q])
        for s, d, q in zip(*columns, strict=True)
    ]
    translation = pairs.db_from_query[:, :3, 3]
    if translation_frame == "world":
        centres = [
            [scenes[s].world_from_cam[i, :3, 3] for s, i in zip(pairs.scene, frame)]
            for frame in (pairs.db, pairs.query)
        ]
        translation = np.array(centres[1]) - np.array(centres[0])
    scene, db, query = zip(*named)
    return dict(
        scene=scene,
        db=db,
        query=query,
        rotation=pairs.db_from_query[:, :3, :3],
        translation=translation,
        translation_frame=translation_frame,
    )


@pytest.mark.parametrize("translation_frame", ["camera", "world"])
def test_list_of_true_poses(rng, scenes, translation_frame):
    expected = every_pair(scenes, rng)
    found = pairs_from_list(scenes, **as_list(scenes, expected, translation_frame))
    for name in ("scene", "db", "query"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(found.db_from_query, expected.db_from_query, atol=1e-12)


def test_splits_of_a_scene_may_be_apart(rng, scenes):
    whole = every_pair(scenes, rng)
    halves = [scenes[0].select([0, 1, 2, 3]), scenes[0].select([4, 5, 6]), scenes[1]]
    listed = as_list(scenes, whole, "camera")
    together = np.flatnonzero((whole.scene == 1) | ((whole.db < 4) == (whole.query < 4)))
    found = pairs_from_list(halves, **listed, skip_missing=True)
    assert len(found) == len(together)
    for k, row in enumerate(together):
        frames = halves[found.scene[k]]
        assert frames.scene == listed["scene"][row]
        assert f"/{frames.names[found.db[k]]}" == listed["db"][row]
        assert frames.names[found.query[k]] == listed["query"][row]


def test_missing_frames(rng, scenes, caplog):
    listed = as_list(scenes, every_pair(scenes, rng), "camera")
    count = sum(name == "scene1" for name in listed["scene"])
    with pytest.raises(UsageError, match=rf"scene1: .* \({count} pairs of 22 miss a frame\)"):
        pairs_from_list(scenes[:1], **listed)
    with caplog.at_level("WARNING"):
        found = pairs_from_list(scenes[:1], **listed, skip_missing=True)
    assert len(found) == 22 - count
    assert f"{count} of 22 listed pairs miss a frame" in caplog.text
    with pytest.raises(UsageError, match="22 pairs of 22 miss a frame"):
        pairs_from_list([], **listed, skip_missing=True)


def test_unknown_translation_frame(rng, scenes):
    listed = as_list(scenes, every_pair(scenes, rng), "camera") | {"translation_frame": "cam"}
    with pytest.raises(UsageError, match="unknown translation frame 'cam'; known: camera, world"):
        pairs_from_list(scenes, **listed)


def test_the_authors_list_comes_out_of_the_loader_as_it_is(shared_data):
    """In world axes; and as the poses have it, within the noise of the labels, in the camera's."""
    path = shared_data / "aalto_pairs" / "db_all_med_hard_valid.txt"
    listed = read_pair_list(path)
    rows = np.flatnonzero(np.isin(listed.scenes, ("heads", "fire")))
    scenes = [
        seven_scenes.pose_frames(shared_data, scene, split)
        for scene, split in itertools.product(("heads", "fire"), ("train", "test"))
    ]
    found = read_listed_pairs(scenes, path, skip_missing=True)
    assert len(found) == len(rows) == 402 + 839
    true = make_pairs(scenes, found.scene, found.db, found.query)
    error = np.linalg.norm(found.db_from_query[:, :3, 3] - true.db_from_query[:, :3, 3], axis=1)
    assert np.median(error) < 0.015
    plain = [
        dataclasses.replace(
            frames,
            images=[np.zeros((12, 16, 3), np.uint8)] * len(frames),
            image_sizes=np.tile([[16, 12]], (len(frames), 1)),
        )
        for frames in scenes
    ]
    options = dict(batch_size=1241, train=False, image_size=8, crop=8, translation_frame="world")
    (batch,) = PairLoader(plain, found, **options).batches()
    np.testing.assert_allclose(batch["db_from_query"][:, 4:], listed.t_world[rows], atol=1e-5)
    q_wxyz = Rotation.from_matrix(listed.rotation[rows]).as_quat(scalar_first=True)
    same = np.abs(np.sum(batch["db_from_query"][:, :4] * q_wxyz, axis=1))
    np.testing.assert_allclose(same, 1, atol=1e-6)
