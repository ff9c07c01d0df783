"""Serving on a cluster of two nodes: one is killed under load, and every query is answered once."""

import concurrent.futures
import socket
import time

import numpy as np
import pytest

import jaxreloc
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.loading import pretrained_network
from tests.conftest import SHARED_DATA
from tests.scale import clusters, run_job

pytestmark = pytest.mark.ray
FOX = SHARED_DATA / "fox"
QUERIES, CLIENTS = 24, 4


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """A folder of maps, and the queries' names with their intrinsics."""
    if not FOX.is_dir():
        pytest.skip(f"real data is absent: {FOX}")
    frames = read_posed_images(FOX)
    network = pretrained_network(frames.image_sizes, long_side=128)
    folder = tmp_path_factory.mktemp("served")
    halves = [np.arange(0, 50, 4), np.arange(1, 50, 4), np.arange(2, 50, 4)]
    SceneMap.create(
        folder / "fox", network, [encode_frames(frames.select(x), network) for x in halves]
    )
    return folder, frames.select(np.arange(3, 50, 4))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize("shards", [0, 2])
def test_a_killed_node_loses_no_query(maps, shards):
    folder, frames = maps
    expected = run_job.opening(folder / "fox")
    answers = {
        i: expected(frames.images[i], frames.intrinsics[i]) for i in range(len(frames))
    }
    port = free_port()
    with clusters.two_nodes() as nodes:
        command = ("serve", folder, port, nodes.address, 2, shards)
        with clusters.job("-m", "tests.scale.run_job", *command) as process:
            client = jaxreloc.Client(f"http://127.0.0.1:{port}", timeout_s=clusters.WAIT_S)
            clusters.wait_until(lambda: is_answered(port), process)

            def ask(k: int):
                i = k % len(frames)
                return client.localize(
                    frames.images[i], map="fox", intrinsics=frames.intrinsics[i]
                )

            ask(0)
            with concurrent.futures.ThreadPoolExecutor(CLIENTS) as threads:
                asked = [threads.submit(ask, k) for k in range(QUERIES)]
                clusters.wait_until(lambda: sum(x.done() for x in asked) >= 4, process)
                nodes.kill_other()
                found = [x.result() for x in asked]
            process.terminate()
            status, err = clusters.ended(process)
    assert status == 0, err
    for k, pose in enumerate(found):
        single = answers[k % len(frames)]
        assert pose.success == single.success
        if single.success:
            np.testing.assert_allclose(pose.world_from_cam, single.world_from_query, atol=1e-3)
    assert sum(x.success for x in found) > QUERIES / 2


def is_answered(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            pass
        time.sleep(1)
        return jaxreloc.Client(f"http://127.0.0.1:{port}").maps() == ["fox"]
    except (OSError, jaxreloc.usage.UsageError):
        return False
