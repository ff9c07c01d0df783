"""Building and asking on a cluster of two nodes, whole and while one of them is killed."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import safetensors.numpy

from jaxreloc.localization.jobs import building
from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.scene_map import SceneMap
from tests.conftest import SHARED_DATA
from tests.scale import clusters, run_job

pytestmark = pytest.mark.ray
FOX = SHARED_DATA / "fox"
# Where the order of a sum shows: the last bit of half precision, and cells between two codes.
HALF_STEP, CELL_SHARE = 1e-3, 0.01


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """A folder with the map of one process, `one`."""
    if not FOX.is_dir():
        pytest.skip(f"real data is absent: {FOX}")
    folder = tmp_path_factory.mktemp("maps")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "SEGMENT_SIZE", run_job.SEGMENT)
        building.build_map(FOX, folder / "one", long_side=128)
    return folder


def check_same(found: pathlib.Path, expected: pathlib.Path) -> None:
    """File by file; what a network computed may differ in its last bits, and digests of it."""
    assert clusters.files_in(found) == clusters.files_in(expected)
    assert map_files.check_files(found) == []
    for name in clusters.files_in(expected):
        a, b = found / name, expected / name
        if name.endswith(".npy"):
            x, y = np.load(a), np.load(b)
            assert (x.dtype, x.shape) == (y.dtype, y.shape), name
            if x.dtype.kind == "f":
                off = ~np.isclose(x, y, rtol=HALF_STEP, atol=HALF_STEP)
                assert off.mean() <= CELL_SHARE, name
            else:
                assert np.mean(x != y) <= CELL_SHARE, name
        elif name.endswith("network.safetensors"):
            x, y = (safetensors.numpy.load_file(path) for path in (a, b))
            assert all(np.array_equal(x[key], y[key]) for key in x.keys() | y.keys())
        elif name.endswith("manifest.json"):
            x, y = (json.loads(path.read_text())["segments"] for path in (a, b))
            kept = ("name", "num_images", "removed", "depth")
            assert [[s[k] for k in kept] for s in x] == [[s[k] for k in kept] for s in y]
        elif not name.endswith(("files.json", "descriptor_rows.json")):
            assert a.read_bytes() == b.read_bytes(), name


def num_pieces(out: pathlib.Path) -> int:
    pieces = list(out.with_name(out.name + ".partial").glob("pieces/*/[0-9]*"))
    return len(pieces)


def num_depths(out: pathlib.Path) -> int:
    return len(list(out.with_name(out.name + ".partial").glob("depth/*/*.npz")))


@pytest.mark.parametrize("progress, images", [(num_pieces, FOX), (num_depths, f"file://{FOX}")])
def test_a_killed_node_changes_no_map(maps, progress, images):
    out = maps / f"killed_{progress.__name__}"
    with clusters.two_nodes() as nodes:
        command = ("-m", "tests.scale.run_job", "build", images, out, nodes.address)
        with clusters.job(*command) as process:
            clusters.wait_until(lambda: progress(out) >= 2, process)
            assert len(nodes.kill_other()) >= 2
            status, err = clusters.ended(process)
    assert status == 0, err
    check_same(out, maps / "one")
    assert not out.with_name(out.name + ".partial").exists()


def test_a_build_that_is_cut_off_while_it_triangulates_goes_on(maps):
    out = maps / "cut_off"
    arguments = ("-m", "tests.scale.run_job", "build", FOX, out, "local")
    with clusters.job(*arguments) as process:
        clusters.wait_until(lambda: num_depths(out) >= 2, process)
        process.kill()
    with clusters.job(*arguments) as process:
        status, err = clusters.ended(process)
    assert status == 0, err
    check_same(out, maps / "one")


def test_an_interrupted_build_goes_on(maps):
    out = maps / "interrupted"
    arguments = ("-m", "tests.scale.run_job", "build", FOX, out)
    with clusters.job(*arguments, "local") as process:
        clusters.wait_until(lambda: num_pieces(out) >= 3, process)
        process.kill()
    partial = out.with_name(out.name + ".partial")
    made = {path: path.stat().st_mtime_ns for path in partial.glob("pieces/*/[0-9]*/files.json")}
    assert len(made) >= 3 and not out.exists()
    other = ("-m", "jaxreloc", "map", "build", f"--images={FOX}", f"--out={out}", "--engine=ray")
    with clusters.job(*other) as process:
        status, err = clusters.ended(process)
        assert status == 2 and "give the same, or remove the folder" in err
    with clusters.job(*arguments, "local") as process:
        seen = {}

        def pieces_are_joined() -> bool:
            for path in made:
                if path.exists():
                    seen[path] = path.stat().st_mtime_ns
            return out.exists()

        clusters.wait_until(pieces_are_joined)
        status, err = clusters.ended(process)
    assert status == 0, err
    assert all(seen[path] == made[path] for path in seen)  # none was made again
    check_same(out, maps / "one")


def test_a_killed_node_loses_no_query(maps):
    out, expected = maps / "answers.jsonl", maps / "expected.jsonl"
    images = maps / "queries"
    images.mkdir()
    for path in sorted((FOX / "images").iterdir())[::2]:
        shutil.copy(path, images / path.name)
    (images / "0000_broken.jpg").write_bytes(b"no picture")
    asked = ["-m", "jaxreloc", "query", f"--map={maps / 'one'}", f"--images={images}"]
    asked += ["--format=jsonl", "--no_quarter_turns"]
    partial = out.with_name(out.name + ".partial")
    with clusters.two_nodes() as nodes:
        on_ray = ["--engine=ray", f"--address={nodes.address}", "--workers=2"]
        with clusters.job(*asked, f"--out={out}", *on_ray) as process:
            clusters.wait_until(
                lambda: partial.exists() and len(partial.read_bytes().splitlines()) > 2, process
            )
            nodes.kill_other()
            status, err = clusters.ended(process)
        assert status == 2 and "1 could not be read" in err
    with clusters.job(*asked, f"--out={expected}") as process:
        clusters.ended(process)
    found, single = ([json.loads(x) for x in p.read_text().splitlines()] for p in (out, expected))
    names = [path.name for path in sorted(images.iterdir())]
    assert [x["name"] for x in found] == [x["name"] for x in single] == names
    for a, b in zip(found, single, strict=True):
        assert a["success"] == b["success"]
        if a["success"]:
            np.testing.assert_allclose(a["world_from_cam"], b["world_from_cam"], atol=1e-3)
    assert sum(x["success"] for x in found) > len(found) / 2


def test_a_killed_node_changes_no_table(tmp_path):
    asked = ["-m", "jaxreloc", "eval", "--dataset=posed_images", f"--data_path={FOX}"]
    asked += ["--scene=fox", "--baseline=nearest", "--long_side=128"]
    found, expected = tmp_path / "found", tmp_path / "expected"
    kept = found / "fox" / "queries.partial"
    with clusters.job(*asked, f"--out={found}", "--engine=ray", "--workers=1") as process:
        clusters.wait_until(lambda: any(kept.glob("0*.json")), process)
        process.kill()  # the whole run; the next one goes on
    first = {path: path.stat().st_mtime_ns for path in kept.glob("0*.json")}
    with clusters.two_nodes() as nodes:
        on_ray = ["--engine=ray", f"--address={nodes.address}", "--workers=2"]
        with clusters.job(*asked, f"--out={found}", *on_ray) as process:
            clusters.wait_until(lambda: len(list(kept.glob("0*.json"))) > len(first), process)
            assert all(path.stat().st_mtime_ns == time for path, time in first.items())
            nodes.kill_other()
            status, err = clusters.ended(process)
    assert status == 0, err
    with clusters.job(*asked, f"--out={expected}") as process:
        status, err = clusters.ended(process)
    assert status == 0, err
    assert not kept.exists()
    ours, theirs = (json.loads((x / "metrics.json").read_text()) for x in (found, expected))
    assert ours.keys() == theirs.keys()
    files = {x.name for x in (expected / "fox").glob("*.txt")}
    assert files and files == {x.name for x in (found / "fox").glob("*.txt")}
    for name in files:
        a, b = (np.loadtxt(x / "fox" / name, usecols=range(1, 8)) for x in (found, expected))
        assert len(a) == len(b) > 0
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_what_is_wrong_is_one_line(maps, tmp_path):
    build = ("-m", "jaxreloc", "map", "build", f"--images={FOX}", f"--out={tmp_path / 'map'}")
    for address, words in [
        ("127.0.0.1:1", "no cluster of Ray answers"),
        ("ray://127.0.0.1:10001", "give HOST:PORT"),
    ]:
        with clusters.job(*build, "--engine=ray", f"--address={address}") as process:
            status, err = clusters.ended(process)
        (line,) = [x for x in err.splitlines() if x.startswith("error: ")]
        assert status == 2 and words in line and "Traceback" not in err, err
    with clusters.job(*build, "--address=127.0.0.1:1") as process:
        status, err = clusters.ended(process)
        assert status == 2 and err.startswith("error: --address is of --engine=ray")
    assert len(SceneMap.open(maps / "one")) == 50
