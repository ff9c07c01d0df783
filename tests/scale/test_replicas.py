"""Replicas of Ray Serve: a map is asked for where it is open, and load brings more of them."""

import concurrent.futures
import contextlib
import time

import pytest

import jaxreloc
from tests.scale import clusters
from tests.scale.test_serving_on_two_nodes import free_port
from tests.serving import processes, toy_maps

pytestmark = pytest.mark.ray
HELD_REQUESTS = 12  # three times as many as one replica is to have


@contextlib.contextmanager
def serving(folder, at_first: int, most: int):
    """A client of replicas that have answered."""
    port = free_port()
    command = ("-m", "tests.scale.toy_replicas", folder, port, at_first, most)
    with clusters.job(*command) as process:
        client = jaxreloc.Client(f"http://127.0.0.1:{port}", timeout_s=clusters.WAIT_S)

        def answers() -> bool:
            try:
                return len(client.maps()) == 2
            except jaxreloc.usage.UsageError:
                time.sleep(0.5)
                return False

        clusters.wait_until(answers, process)
        yield client
        process.terminate()
        status, err = clusters.ended(process)
    assert status == 0, err


@pytest.fixture
def folder(tmp_path):
    folder = processes.folder_of_maps(tmp_path / "served")
    toy_maps.make_map(folder / "maps" / "b", first=10.0)
    return folder


def opened(folder) -> list[tuple[str, str]]:
    lines = (folder / "opened").read_text().splitlines()
    return [tuple(line.split()) for line in lines]


def test_a_map_is_asked_for_where_it_is_open(folder):
    with serving(folder, 2, 2) as client:
        for k in range(12):
            for name, first in (("a", 0.0), ("b", 10.0)):
                found = client.localize(toy_maps.picture(first + 1 + k % 7), map=name)
                assert found.success
                assert abs(found.world_from_cam[0, 3] - (first + 1 + k % 7)) < 0.5
    # By chance, 24 queries would open both maps in both; the first may come before this is known.
    assert len(opened(folder)) < 4


def test_load_brings_another_replica(folder):
    with serving(folder, 1, 2) as client:
        assert client.localize(toy_maps.picture(3.0), map="a").success
        (folder / "held").touch()
        with concurrent.futures.ThreadPoolExecutor(2 * HELD_REQUESTS) as threads:
            asked = [
                threads.submit(client.localize, toy_maps.picture(3.0), map="a")
                for _ in range(HELD_REQUESTS)
            ]

            def another() -> bool:
                if len(asked) < 2 * HELD_REQUESTS:
                    asked.append(threads.submit(client.localize, toy_maps.picture(4.0), map="b"))
                time.sleep(5)
                return len({process for process, _ in opened(folder)}) == 2

            clusters.wait_until(another)
            (folder / "held").unlink()
            assert all(x.result().success is not None for x in asked)
