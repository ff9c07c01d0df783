import concurrent.futures
import dataclasses

import cv2
import jax
import numpy as np
import pytest

from jaxreloc.formats.common.geodesy import GeographicOrigin, placed
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.clock import STAGES
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.methods.pair_fusion import PairFusion
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.models.weights.network_weights import imagenet_matcher
from jaxreloc.usage import UsageError
from tests.localization.fakes import OracleNetwork, oracle_frames


@pytest.fixture
def database(rng):
    return oracle_frames(rng, 21)


def localizer(database, **options):
    network = OracleNetwork()
    return Localizer(SceneMap.from_images(network, encode_frames(database, network)), **options)


@pytest.mark.parametrize("method", ["paper", "robust", "median"])
def test_exact_relative_poses_give_the_exact_pose(database, rng, method):
    queries = oracle_frames(rng, 4)
    locate = localizer(database, method=method)
    for i in range(4):
        found = locate(queries.images[i], queries.intrinsics[i])
        assert found.success
        assert found.location_inliers.sum() >= 2
        np.testing.assert_allclose(found.world_from_query, queries.world_from_cam[i], atol=2e-3)


def test_every_stage_is_timed_and_a_query_can_be_located_twice(database):
    locate = localizer(database)
    query = locate.retrieve(database.images[0], database.intrinsics[0])
    first = locate.locate(query)
    second = locate.locate(query)
    np.testing.assert_array_equal(first.world_from_query, second.world_from_query)
    assert tuple(first.stage_ms) == STAGES
    assert query.clock.stage_ms["fusion"] == 0 < first.stage_ms["fusion"]


def test_no_valid_pair_is_a_failure(database):
    locate = localizer(database)
    query = locate.retrieve(database.images[0], database.intrinsics[0])

    def none_valid(query):
        relations = locate.method.relate(query)
        return relations.replace(valid=np.zeros_like(relations.valid))

    found = locate.locate(query, PairFusion(locate.scene_map, relator=none_valid))
    assert not found.success and not found.refused


def test_more_neighbours_than_images(rng):
    database = oracle_frames(rng, 3)
    locate = localizer(database, num_neighbors=10)
    query = locate.retrieve(database.images[0], database.intrinsics[0])
    assert sorted(query.neighbors) == [0, 1, 2] and query.is_neighbor.all()


def test_candidates_join_the_retrieved_images_once(database, rng):
    locate = localizer(database)
    image, intrinsics = database.images[0], database.intrinsics[0]
    retrieved = locate.retrieve(image, intrinsics).neighbors
    others = np.setdiff1d(np.arange(21), retrieved)[:2]
    candidates = np.concatenate([retrieved[:2], others])
    query = locate.retrieve(image, intrinsics, candidates)
    np.testing.assert_array_equal(query.neighbors[:5], retrieved)
    assert set(query.neighbors[query.is_neighbor]) == set(retrieved) | set(others)
    assert len(query.neighbors) == 10 and query.is_neighbor.sum() == 7
    found = locate(image, intrinsics, candidates)
    np.testing.assert_array_equal(found.neighbors, query.neighbors[query.is_neighbor])
    assert len(found.location_inliers) == len(found.rotation_inliers) == 7
    np.testing.assert_allclose(found.world_from_query, database.world_from_cam[0], atol=2e-3)


def test_first_frame_of_a_video_has_no_candidates(database):
    locate = localizer(database)
    image, intrinsics = database.images[0], database.intrinsics[0]
    found = locate(image, intrinsics, np.zeros(0, int))
    assert found.success and len(found.neighbors) == 5


def test_neighbours_keep_the_baseline(database):
    image, intrinsics = database.images[0], database.intrinsics[0]
    apart = localizer(database, min_baseline=0.8).retrieve(image, intrinsics).neighbors
    nearest = localizer(database, min_baseline=0).retrieve(image, intrinsics).neighbors
    centres = database.world_from_cam[:, :3, 3]
    distance = np.linalg.norm(centres[apart][:, None] - centres[apart][None], axis=-1)
    assert apart[0] == nearest[0]
    assert distance[~np.eye(5, dtype=bool)].min() >= 0.8
    order = np.argsort(-(descriptors(database) @ descriptors(database)[0]), kind="stable")
    np.testing.assert_array_equal(nearest, order[:5])


def test_only_what_is_allowed_is_a_neighbour(database, rng):
    locate = localizer(database)
    image, intrinsics = database.images[0], database.intrinsics[0]
    for count in (1, 3, 12):
        allowed = np.zeros(21, bool)
        allowed[rng.choice(21, count, replace=False)] = True
        found = locate(image, intrinsics, allowed=allowed)
        assert allowed[found.neighbors].all() and len(found.neighbors) == min(count, 5)
        if count > 2:
            np.testing.assert_allclose(
                found.world_from_query, database.world_from_cam[0], atol=2e-3
            )


def test_only_images_near_a_place_are_neighbours(database, rng):
    locate = localizer(database)
    image, intrinsics = database.images[0], database.intrinsics[0]
    centres = database.world_from_cam[:, :3, 3]
    place = rng.normal(size=3)
    distance = np.linalg.norm(centres - place, axis=1)
    radius = np.sort(distance)[[3, 4]].mean()
    found = locate(image, intrinsics, near=(*place, radius))
    assert set(found.neighbors) == set(np.flatnonzero(distance < radius))
    both = locate(image, intrinsics, near=(*place, radius), allowed=distance > distance.min())
    assert set(both.neighbors) == set(found.neighbors) - {distance.argmin()}
    with pytest.raises(UsageError, match=r"within 0.001 of .*; the next one is .*, enlarge"):
        locate(image, intrinsics, near=(9, 9, 9, 1e-3))
    for wrong in [(0, 0, 0, 0), (0, 0, np.nan, 1), (0, 0, 0, -1)]:
        with pytest.raises(UsageError, match="give x, y, z and a radius over 0"):
            locate(image, intrinsics, near=wrong)


def test_a_place_by_gps_needs_an_origin(database, rng):
    locate = localizer(database)
    with pytest.raises(UsageError, match="no geographic origin"):
        locate.scene_map.near_gps((60, 25, 3))
    origin = GeographicOrigin(rng.uniform(-80, 80), rng.uniform(-180, 180), 100.0)
    scene_map = dataclasses.replace(locate.scene_map, geographic_origin=origin)
    point = np.eye(4)
    point[:3, 3] = 3.0, -2.0, 0.0
    place, _ = placed(point, origin)
    near = scene_map.near_gps((place.latitude_deg, place.longitude_deg, 7.0))
    height = np.median(database.world_from_cam[:, 2, 3])
    np.testing.assert_allclose(near, (3, -2, height, 7), atol=1e-4)
    with pytest.raises(UsageError, match="latitude_deg is 95; give -90 to 90"):
        scene_map.near_gps((95, 0, 3))


def descriptors(frames):
    return np.asarray(encode_frames(frames, OracleNetwork()).descriptors, np.float64)


def test_confidence_is_of_the_real_neighbours(database):
    """Candidates pad the neighbours, which takes nothing from the share that agrees."""
    locate = localizer(database)
    image, intrinsics = database.images[0], database.intrinsics[0]
    assert locate(image, intrinsics).confidence == 1
    assert locate(image, intrinsics, np.zeros(0, int)).confidence == 1


def test_a_query_is_checked(database):
    locate, image = localizer(database), database.images[0]
    for wrong in (image[..., 0], image.astype(np.float32), image[:0]):
        with pytest.raises(ValueError, match="uint8 of shape"):
            locate(wrong, np.eye(3))
    for wrong, message in [
        (np.eye(4), "3x3"),
        (np.full((3, 3), np.nan), "finite"),
        (np.diag([-1.0, 1, 1]), "fx fy cx cy"),
        (np.array([[1, 0, 500], [0, 1, 0], [0, 0, 1]]), "28 x 1 image"),
    ]:
        with pytest.raises(ValueError, match=message):
            locate(image, wrong)
    with pytest.raises(ValueError, match="2 images, but 1 intrinsics"):
        locate.localize_all([image, image], [np.eye(3)])


def test_missing_intrinsics_are_the_maps_with_a_warning(rng, caplog):
    database = oracle_frames(rng, 6)
    intrinsics = np.tile([[14.0, 0, 12.5], [0, 14.0, 0], [0, 0, 1]], (6, 1, 1))
    database = dataclasses.replace(database, intrinsics=intrinsics)
    query = localizer(database).retrieve(database.images[0])
    np.testing.assert_allclose(query.intrinsics, intrinsics[0])
    assert "the focal length of 28 x 1 images is taken to be 14 px" in caplog.text


@pytest.mark.parametrize("count", [0, 1, 4, 11])
def test_batches_give_the_answers_of_single_queries(database, rng, count):
    queries, locate = oracle_frames(rng, count + 1), localizer(database)
    images, intrinsics = queries.images[:count], queries.intrinsics[:count]
    together = locate.localize_all(images, list(intrinsics), batch_size=4)
    assert len(together) == count
    for image, camera, batched in zip(images, intrinsics, together):
        same(batched, locate(image, camera))


def same(a, b):
    assert a.success == b.success
    np.testing.assert_array_equal(a.neighbors, b.neighbors)
    np.testing.assert_array_equal(a.location_inliers, b.location_inliers)
    np.testing.assert_array_equal(a.rotation_inliers, b.rotation_inliers)
    np.testing.assert_allclose(a.world_from_query, b.world_from_query, atol=1e-4)
    np.testing.assert_allclose(a.position_covariance, b.position_covariance, rtol=1e-2, atol=1e-8)


def test_eight_threads_give_the_answers_of_one(database, rng):
    queries, locate = oracle_frames(rng, 40), localizer(database)
    alone = [locate(*query) for query in zip(queries.images, queries.intrinsics)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        together = list(threads.map(locate, queries.images, queries.intrinsics))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a.world_from_query, b.world_from_query)
        np.testing.assert_array_equal(a.neighbors, b.neighbors)


@pytest.fixture
def compilations():
    """Grows by an entry for each program that XLA compiles."""
    seen = []

    def listen(event, duration, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.slow
def test_a_real_network_compiles_once_and_serves_threads(rng, compilations):
    frames = photographs(rng, 8)
    network = MatchNetwork(imagenet_matcher((96, 128)))
    locate = Localizer(SceneMap.from_images(network, encode_frames(frames, network)))
    assert locate.warm_up() > 0
    assert locate.warm_up(candidates=True) > 0
    assert locate.warm_up(batch_size=4) > 0
    assert compilations
    compilations.clear()
    sizes = [(96, 128), (200, 150), (480, 640), (33, 500)]
    images = [cv2.resize(image, size[::-1]) for image in frames.images for size in sizes]
    cameras = [np.array([[w, 0, w / 2], [0, w, h / 2], [0, 0, 1.0]]) for h, w in sizes]
    cameras *= len(frames)
    alone = [locate(image, camera) for image, camera in zip(images, cameras, strict=True)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        together = list(threads.map(locate, images, cameras))
    batched = locate.localize_all(images, cameras, batch_size=4)
    locate(images[0], cameras[0], alone[0].neighbors)
    assert not compilations
    for one, threaded, in_batch in zip(alone, together, batched, strict=True):
        np.testing.assert_array_equal(one.world_from_query, threaded.world_from_query)
        np.testing.assert_array_equal(one.neighbors, in_batch.neighbors)
    assert any(one.success for one in alone)
    assert any(one.refused for one in alone)  # so that turned pictures compiled nothing, either


def photographs(rng, n) -> PosedFrames:
    """n crops of one large texture."""
    texture = cv2.resize(rng.integers(0, 256, (30, 40, 3), np.uint8), (400, 300))
    corners = rng.integers(0, 60, (n, 2))
    return PosedFrames(
        scene="wall",
        names=tuple(f"{i}.png" for i in range(n)),
        world_from_cam=np.tile(np.eye(4), (n, 1, 1)) + np.pad(
            rng.normal(size=(n, 3, 1)), ((0, 0), (0, 1), (3, 0))
        ),
        intrinsics=np.tile(np.array([[300.0, 0, 159.5], [0, 300, 119.5], [0, 0, 1]]), (n, 1, 1)),
        image_sizes=np.tile([320, 240], (n, 1)),
        images=[texture[y : y + 240, x : x + 320] for y, x in corners],
    )
