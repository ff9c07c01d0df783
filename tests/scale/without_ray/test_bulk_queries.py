"""Queries in bulk are answered as one by one, and go on where they were; Ray is a fake."""

import contextlib
import dataclasses
import json

import cv2
import numpy as np
import pytest

from jaxreloc.evaluation import evaluate, run
from jaxreloc.images import headers
from jaxreloc.localization.jobs import querying
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.usage import UsageError
from tests.localization.test_toy_network import BrightnessNetwork, corridor
from tests.scale.without_ray.fake_ray import imported_with_fake
from tests.serving import toy_maps

WORKERS = 2  # that fit


@pytest.fixture
def bulk(monkeypatch):
    """The module, with a cluster that notes which paths its nodes have to see."""
    with imported_with_fake(monkeypatch, "bulk_queries") as (ray, bulk_queries):
        ray.shared = []

        @contextlib.contextmanager
        def connected(address, *, shared):
            ray.shared.append((address, shared))
            yield WORKERS

        monkeypatch.setattr(bulk_queries, "connected", connected)
        toy_maps.install(monkeypatch.setattr)
        yield ray, bulk_queries


def toy_localizer(scene_map, *options, **named):
    return toy_maps.ToyLocalizer(scene_map)


# ---- pictures ----


@pytest.fixture
def pictures(tmp_path, rng, monkeypatch):
    """A map and nine pictures, of which the sixth is none; where each was taken along x."""
    monkeypatch.setattr(
        querying, "open_localizer", lambda folder, **options: toy_maps.open_localizer(folder)
    )
    toy_maps.make_map(tmp_path / "map")
    (tmp_path / "photos").mkdir()
    x = rng.uniform(2, 6, 9)
    named = [(f"{i}.png", tmp_path / "photos" / f"{i}.png") for i in range(9)]
    for (_, path), metres in zip(named, x, strict=True):
        cv2.imwrite(str(path), toy_maps.picture(metres))
    named[5][1].write_bytes(b"no picture")
    return tmp_path, named, x


def settings_of(bulk_queries, folder, near=None):
    return bulk_queries.BulkQueries(
        map=folder / "map",
        options={},
        intrinsics_path=None,
        near=near,
        max_pixels=headers.MAX_PIXELS,
    )


def test_answers_are_those_of_one_process(bulk, pictures, caplog):
    ray, bulk_queries = bulk
    folder, named, x = pictures
    queries = settings_of(bulk_queries, folder)
    with bulk_queries.answering(queries, folder / "photos", "head:6379", None) as elsewhere:
        found = list(elsewhere(named))
    assert [pose.name for pose, _ in found] == [name for name, _ in named]
    localizer = toy_maps.open_localizer(folder / "map")
    for k, (pose, problem) in enumerate(found):
        if k == 5:
            assert not pose.success and "5.png" in problem and problem in caplog.text
            continue
        expected = localizer(cv2.imread(str(named[k][1])), toy_maps.INTRINSICS)
        assert pose.success and problem == ""
        np.testing.assert_array_equal(pose.world_from_cam, expected.world_from_query)
        assert abs(pose.world_from_cam[0, 3] - x[k]) < 0.06  # brightness is a whole number
        assert pose.num_neighbors == len(expected.neighbors)
        assert pose.num_inliers == expected.location_inliers.sum()
    assert ray.shared == [("head:6379", [folder / "map", folder / "photos"])]
    assert len(ray.workers) == WORKERS  # for three pieces


def test_only_images_near_a_place_are_neighbours(bulk, pictures):
    _, bulk_queries = bulk
    folder, named, _ = pictures
    queries = settings_of(bulk_queries, folder, near=(4.0, 1.0, 0.0, 1.2))
    with bulk_queries.answering(queries, folder / "photos", None, 1) as elsewhere:
        found = [pose for k, (pose, _) in enumerate(elsewhere(named)) if k != 5]
    assert len(found) == 8 and all(1 <= pose.num_neighbors <= 3 for pose in found)


def test_a_place_without_images_ends_the_job(bulk, pictures):
    _, bulk_queries = bulk
    folder, named, _ = pictures
    queries = settings_of(bulk_queries, folder, near=(100.0, 1.0, 0.0, 1.0))
    with bulk_queries.answering(queries, folder / "photos", None, 1) as elsewhere:
        with pytest.raises(UsageError, match="no image of the map was taken within 1"):
            list(elsewhere(named))


def test_what_is_no_folder_is_refused_before_a_cluster_is_joined(bulk, pictures):
    ray, bulk_queries = bulk
    folder, named, _ = pictures
    queries = settings_of(bulk_queries, folder)
    with pytest.raises(UsageError, match="--engine=ray takes a folder of pictures"):
        with bulk_queries.answering(queries, named[0][1], None, 1):
            pass
    assert ray.shared == []


# ---- scenes ----


@pytest.fixture
def scene(rng, monkeypatch):
    """A corridor with eleven queries; whoever opens its map has the toy localizer."""
    database = corridor(np.arange(9.0), 1.0)
    queries = corridor(rng.uniform(1, 7, 11), 0.0)
    scene = run.Scene("corridor", database, queries)
    monkeypatch.setattr(run, "load_evaluation_scenes", lambda settings: [scene])
    monkeypatch.setattr(run, "default_network", lambda scene, settings: BrightnessNetwork())
    monkeypatch.setattr(run, "localizer_of", toy_localizer)
    return scene


SETTINGS = run.Settings("posed_images", ("all",), methods=("nearest", "network"))


def evaluated(bulk_queries, scene, out, settings=SETTINGS):
    network = BrightnessNetwork()
    images = encode_frames(scene.database, network)
    scene_map = SceneMap.from_images(network, images)
    with bulk_queries.evaluating(settings, None, None, out, None, None) as elsewhere:
        return elsewhere(scene, out / "corridor", scene_map, images)


def assert_as_one_process(found, scene):
    network = BrightnessNetwork()
    scene_map = SceneMap.from_images(network, encode_frames(scene.database, network))
    ask = evaluate.SceneQueries(
        toy_localizer(scene_map), scene.database, scene.queries, SETTINGS.methods
    )
    assert len(found) == len(scene.queries)
    for i, answers in enumerate(found):
        expected = ask(i)
        assert list(answers) == list(expected) == ["nearest", "network"]
        for method, located in answers.items():
            pose = expected[method].world_from_query
            np.testing.assert_array_equal(located.world_from_query, pose)
            assert located.success is bool(expected[method].success)
            assert set(located.stage_ms) == set(expected[method].stage_ms)
        truth = scene.queries.world_from_cam[i]
        np.testing.assert_allclose(answers["network"].world_from_query, truth, atol=0.06)


def test_scenes_are_answered_as_by_one_process(bulk, scene, tmp_path):
    ray, bulk_queries = bulk
    assert_as_one_process(evaluated(bulk_queries, scene, tmp_path / "out"), scene)
    assert len(ray.workers) == WORKERS
    assert ray.shared == [(None, [tmp_path / "out"])]
    assert list((tmp_path / "out" / "corridor").iterdir()) == []


def test_a_run_that_was_cut_off_asks_only_what_is_missing(bulk, scene, tmp_path, monkeypatch):
    _, bulk_queries = bulk
    whole, asked = bulk_queries._Evaluating.__call__, []

    def until_the_disk_is_full(worker, part):
        asked.append(part)
        if part[0] == 4 and len(asked) < 3:
            raise OSError("no space")
        return whole(worker, part)

    monkeypatch.setattr(bulk_queries._Evaluating, "__call__", until_the_disk_is_full)
    with pytest.raises(UsageError, match="no space"):
        evaluated(bulk_queries, scene, tmp_path)
    assert asked == [[0, 4], [4, 8]]
    kept = tmp_path / "corridor" / "queries.partial"
    first = json.loads((kept / "000000.json").read_text())
    assert len(first) == 4 and not (kept / "000004.json").exists()
    for other in (
        dataclasses.replace(SETTINGS, mode="fast"),
        dataclasses.replace(SETTINGS, methods=("network",)),
    ):
        with pytest.raises(UsageError, match="is of a run with other flags"):
            evaluated(bulk_queries, scene, tmp_path, other)
    del asked[:]
    asked += [None] * 2  # the disk has space again
    assert_as_one_process(evaluated(bulk_queries, scene, tmp_path), scene)
    assert asked[2:] == [[4, 8], [8, 11]] and not kept.exists()


def test_the_network_that_ships_is_no_baseline_here(bulk, tmp_path):
    ray, bulk_queries = bulk
    settings = dataclasses.replace(SETTINGS, methods=("network", "shipped"))
    with pytest.raises(UsageError, match="--baseline=shipped is asked by one process"):
        with bulk_queries.evaluating(settings, None, None, tmp_path / "out", None, None):
            pass
    assert ray.shared == [] and not (tmp_path / "out").exists()
