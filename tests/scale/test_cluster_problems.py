"""What is wrong with a cluster is said in one line with the remedy, each time by a real one."""

import contextlib
import subprocess

import numpy as np
import pytest

from jaxreloc.localization.networks.loading import pretrained_network
from jaxreloc.usage import UsageError
from tests.conftest import SHARED_DATA
from tests.scale import clusters

pytestmark = pytest.mark.ray
FOX = SHARED_DATA / "fox"


@pytest.fixture(scope="module")
def nodes():
    with clusters.two_nodes() as nodes:
        yield nodes


def refusal(address: str, *, shared=()) -> str:
    from jaxreloc.scale.cluster import connected

    with pytest.raises(UsageError) as refused, connected(address, shared=shared):
        pass
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    "customization, words",
    [
        ("import sys; sys.modules['jaxreloc'] = None", ["has no package jaxreloc", "pip install"]),
        (
            "import sys, types; other = types.ModuleType('jaxreloc')\n"
            "other.__version__ = '0.0.1'; sys.modules['jaxreloc'] = other",
            ["has jaxreloc 0.0.1, not ", "pip install"],
        ),
        (
            "import os; there = os.path.exists\n"
            "os.path.exists = lambda path: path != '{path}' and there(path)",
            ["sees no {path}", "mount"],
        ),
        (
            "import os; may = os.access\n"
            "os.access = lambda path, *how: path != '{path}' and may(path, *how)",
            ["may not read {path}"],
        ),
    ],
)
def test_a_node_is_not_as_the_others(nodes, tmp_path, customization, words):
    shared = tmp_path / "shared"
    shared.mkdir()
    with nodes.third(tmp_path, customization.replace("{path}", str(shared))):
        said = refusal(nodes.address, shared=[shared])
    for word in words:
        assert word.replace("{path}", str(shared)) in said


def test_versions_of_ray_differ(nodes, monkeypatch):
    import ray

    monkeypatch.setattr(ray, "__version__", "0.0.1")
    said = refusal(nodes.address)
    assert "0.0.1" in said and "install the same versions on all machines" in said


def test_a_node_with_a_full_disk_takes_no_work(monkeypatch):
    monkeypatch.setenv("RAY_local_fs_capacity_threshold", "1e-6")  # of which any disk is fuller
    with clusters.two_nodes() as nodes:
        assert "disk is nearly full" in refusal(nodes.address)


@pytest.mark.parametrize(
    "name, words",
    [
        ("ObjectStoreFullError", "larger --object-store-memory"),
        ("OutOfDiskError", "free space there"),
        ("OutOfMemoryError", "--workers fewer"),
    ],
)
def test_what_ray_lacks_has_a_line(name, words):
    import ray

    from jaxreloc.scale.cluster import worded

    with pytest.raises(UsageError, match=words), worded():
        raise getattr(ray.exceptions, name)("of\nseveral lines")


@pytest.mark.parametrize("cause", [RuntimeError, TimeoutError, ConnectionError, ValueError])
def test_what_a_worker_raises_is_one_line(cause):
    import ray

    from jaxreloc.scale.cluster import worded

    error = ray.exceptions.RayTaskError("work", "a trace\nof lines: it broke", cause("it broke"))
    with pytest.raises(UsageError, match="a worker failed: .*it broke") as refused, worded():
        raise error.as_instanceof_cause()
    assert "\n" not in str(refused.value)


@pytest.fixture
def small_disk(tmp_path):
    """A file system that holds a network and no image more; the function makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()
    pretrained_network(np.array([[1920, 1080]]), long_side=128).save(tmp_path)
    network_bytes = (tmp_path / "network.safetensors").stat().st_size

    def mount(size: str, *how: str) -> None:
        options = ",".join([f"size={size}", *how])
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)

    try:
        mount(str(network_bytes + 200_000))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root mounts a small disk")
    yield folder, lambda: mount("400m", "remount")
    with contextlib.suppress(subprocess.CalledProcessError):
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_ends_a_build_which_goes_on(small_disk):
    folder, make_larger = small_disk
    out = folder / "map"
    build = ["-m", "jaxreloc", "map", "build", f"--images={FOX}", f"--out={out}"]
    build += ["--long_side=128", "--engine=ray", "--workers=1"]
    with clusters.job(*build) as process:
        status, err = clusters.ended(process)
    (line,) = [x for x in err.splitlines() if x.startswith("error: ")]
    assert status == 2 and "cannot be written" in line and "free space" in line, err
    assert (folder / "map.partial" / "map" / "network.safetensors").exists()
    make_larger()
    with clusters.job(*build) as process:
        status, err = clusters.ended(process)
    assert status == 0 and out.is_dir(), err
