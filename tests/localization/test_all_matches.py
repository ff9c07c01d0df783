"""The localizer's default on a matcher whose matches are known."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.map_depth import with_depth
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.methods.all_matches_method import (
    CONTEXT_NEIGHBORS,
    MODES,
    AllMatches,
)
from jaxreloc.localization.query_state import TOO_FEW
from jaxreloc.usage import UsageError
from tests.geometry.planted_tracks import pose_error
from tests.localization.fakes import MatchingOracle, OracleNetwork, looking_frames, oracle_frames

COUNT = 14  # of database images
COUNT_OF_MODE = {"default": CONTEXT_NEIGHBORS, "precise": CONTEXT_NEIGHBORS, "thorough": 10}


def mapped(rng, frames=None, wrong=0.2, shift=None) -> SceneMap:
    frames = frames or looking_frames(rng, COUNT)
    network = MatchingOracle(rng, wrong)
    encoded = encode_frames(frames, network)
    if shift is not None:
        world_from_cam = encoded.world_from_cam.copy()
        world_from_cam[:, :3, 3] += shift
        encoded = dataclasses.replace(encoded, world_from_cam=world_from_cam)
    return with_depth(SceneMap.from_images(network, encoded))


def test_the_pose_is_exact_though_matches_are_wrong(rng):
    locate, queries, errors = Localizer(mapped(rng)), looking_frames(rng, 6), []
    for i in range(6):
        found = locate(queries.images[i], queries.intrinsics[i])
        position, degrees = pose_error(found.world_from_query, queries.world_from_cam[i])
        errors.append([position, degrees])
        assert found.success and found.confidence > 0.9
        assert position < 0.06 and degrees < 0.5
        assert found.location_inliers.sum() >= 5
        assert found.scale_source == "database_poses" and found.reason == ""
        assert found.covariance.shape == (6, 6)
        np.testing.assert_array_equal(found.position_covariance, found.covariance[3:, 3:])
    assert (np.median(errors, axis=0) < [0.03, 0.3]).all()


def test_a_focal_length_that_is_not_known_is_found_with_the_pose(rng):
    """By a camera whose pictures are of another size than the map's."""
    scene_map, queries = mapped(rng), looking_frames(rng, 4)
    locate = Localizer(dataclasses.replace(scene_map, image_sizes=scene_map.image_sizes + 1))
    for i in range(4):
        K = queries.intrinsics[i]
        found = locate(queries.images[i], K, focal_deviation=0.5)
        position, degrees = pose_error(found.world_from_query, queries.world_from_cam[i])
        assert found.success and position < 0.2 and degrees < 0.5
        assert found.focal_px == pytest.approx(K[0, 0], rel=0.03)
        assert 0 < found.focal_deviation < 0.05 and found.focal_factor == 1.0
        assert locate(queries.images[i], K).focal_px is None


def test_a_focal_length_near_the_maps_own_is_the_maps_own(rng):
    locate, queries = Localizer(mapped(rng)), looking_frames(rng, 4)
    for i in range(4):
        image, K = queries.images[i], queries.intrinsics[i]
        found = locate(image, K, focal_deviation=0.5)
        position, degrees = pose_error(found.world_from_query, queries.world_from_cam[i])
        assert found.success and position < 0.06 and degrees < 0.5
        assert found.focal_px == pytest.approx(K[0, 0], rel=1e-6)
        assert 0 < found.focal_deviation < 0.02


@pytest.mark.parametrize("factor", [1.0, 1.05])
def test_the_maps_own_camera_is_one_that_its_pictures_agree_on(rng, factor):
    scene_map = mapped(rng)
    intrinsics = scene_map.intrinsics.copy()
    intrinsics[::2, :2] *= factor
    method = Localizer(dataclasses.replace(scene_map, intrinsics=intrinsics)).method
    width, height = scene_map.image_sizes[0]
    own = method.own_intrinsics((height, width))
    if factor == 1.0:
        np.testing.assert_allclose(own, scene_map.intrinsics[0])
    else:
        assert own is None
    assert method.own_intrinsics((height + 1, width)) is None


def test_a_batch_gives_the_answers_of_single_queries(rng):
    locate, queries = Localizer(mapped(rng, wrong=0.0)), looking_frames(rng, 5)
    together = locate.localize_all(queries.images, list(queries.intrinsics), batch_size=4)
    for i, found in enumerate(together):
        position, degrees = pose_error(found.world_from_query, queries.world_from_cam[i])
        assert found.success and position < 0.06 and degrees < 0.5
        assert all(ms >= 0 for ms in found.stage_ms.values())


def test_coordinates_far_from_the_origin_lose_nothing(rng):
    """As of UTM: half a million and five million metres."""
    shift = np.array([5e5, 5e6, 100.0])
    frames, queries = looking_frames(rng, COUNT), looking_frames(rng, 4)
    locate = Localizer(mapped(rng, frames, wrong=0.0, shift=shift))
    for i in range(4):
        found = locate(queries.images[i], queries.intrinsics[i])
        true = queries.world_from_cam[i].copy()
        true[:3, 3] += shift
        position, degrees = pose_error(found.world_from_query, true)
        assert position < 0.06 and degrees < 0.5


def test_matches_that_agree_on_nothing_are_refused(rng):
    locate = Localizer(mapped(rng, wrong=1.0), quarter_turns=False)
    queries = looking_frames(rng, 3)
    for i in range(3):
        found = locate(queries.images[i], queries.intrinsics[i])
        assert not found.success and found.refused
        assert found.reason == TOO_FEW
        assert np.isfinite(found.world_from_query).all()


class ContextOracle(MatchingOracle):
    """In context its matches are right; it counts the images that it has matched so."""

    def __init__(self, rng, wrong, has_context=True):
        super().__init__(rng, wrong)
        self.has_context, self.matched_in_context = has_context, 0

    def match_tracks_in_context(self, db_features, db_intrinsics, query_features, query_intrinsics):
        self.matched_in_context += len(db_intrinsics)
        arguments = db_features, db_intrinsics, query_features, query_intrinsics
        return MatchingOracle(self._rng, 0.2).match_tracks(*arguments, None)


@pytest.mark.parametrize("mode", MODES)
def test_context_is_for_what_was_refused(rng, mode):
    """And `thorough` has it always, `fast` never."""
    network = ContextOracle(rng, wrong=1.0)
    encoded = encode_frames(looking_frames(rng, COUNT), network)
    locate = Localizer(
        with_depth(SceneMap.from_images(network, encoded)), mode=mode, quarter_turns=False
    )
    queries = looking_frames(rng, 3)
    for i in range(3):
        network.matched_in_context = 0
        found = locate(queries.images[i], queries.intrinsics[i])
        if mode == "fast":
            assert found.refused and network.matched_in_context == 0
            continue
        position, degrees = pose_error(found.world_from_query, queries.world_from_cam[i])
        assert found.success and position < 0.05 and degrees < 0.5
        assert network.matched_in_context == COUNT_OF_MODE[mode]
        assert len(found.location_inliers) == len(found.neighbors) == MODES[mode].num_neighbors
        assert not found.location_inliers[network.matched_in_context :].any()


def test_an_answer_is_left_alone(rng):
    """Bit for bit that of a network without context, which is not asked."""
    scene_map, queries, seed = mapped(rng), looking_frames(rng, 3), rng.integers(1 << 31)
    networks = [kind(np.random.default_rng(seed), 0.2) for kind in (MatchingOracle, ContextOracle)]
    found = []
    for network in networks:
        locate = Localizer(dataclasses.replace(scene_map, network=network), quarter_turns=False)
        found.append([locate(*x) for x in zip(queries.images, queries.intrinsics, strict=True)])
    for plain, other in zip(*found, strict=True):
        assert plain.success
        np.testing.assert_array_equal(plain.world_from_query, other.world_from_query)
        assert plain.confidence == other.confidence
    assert networks[1].matched_in_context == 0


def test_what_is_not_allowed_has_no_part_in_context(rng):
    network = ContextOracle(rng, wrong=1.0)
    scene_map = SceneMap.from_images(network, encode_frames(looking_frames(rng, COUNT), network))
    locate, query = Localizer(scene_map, quarter_turns=False), looking_frames(rng, 1)
    allowed = np.isin(np.arange(COUNT), rng.choice(COUNT, 3, replace=False))
    asked = locate.retrieve(query.images[0], query.intrinsics[0], allowed=allowed)
    tracks = locate.method.in_context(was_refused=True).relate(asked)
    weights = np.asarray(tracks.weights).sum(axis=1)
    np.testing.assert_array_equal(weights > 0, allowed[asked.neighbors])


def test_a_network_without_context_is_not_asked_for_it(rng):
    network = ContextOracle(rng, wrong=1.0, has_context=False)
    encoded = encode_frames(looking_frames(rng, COUNT), network)
    scene_map = with_depth(SceneMap.from_images(network, encoded))
    locate = Localizer(scene_map, mode="thorough", quarter_turns=False)
    query = looking_frames(rng, 1)
    assert locate(query.images[0], query.intrinsics[0]).refused
    assert network.matched_in_context == 0


def test_an_expected_pose_is_no_answer_by_itself(rng):
    locate, queries = Localizer(mapped(rng)), looking_frames(rng, 2)
    wrong = queries.world_from_cam[1][None].copy()
    wrong[0, :3, 3] += 3.0
    found = locate(queries.images[0], queries.intrinsics[0], expected=wrong)
    position, degrees = pose_error(found.world_from_query, queries.world_from_cam[0])
    assert position < 0.06 and degrees < 0.5


def test_candidates_are_among_the_images_that_are_compared(rng):
    scene_map, query = mapped(rng, looking_frames(rng, 40)), looking_frames(rng, 1)
    locate = Localizer(scene_map, num_neighbors=4)
    descriptor = scene_map.network.descriptor({"pose": pose_of(query)})
    ranking = locate.index.search(descriptor, locate.method.num_ranked)[0][0]
    others = np.setdiff1d(np.arange(40), ranking)
    assert len(others)
    seen = []

    class Spy(MatchingOracle):
        def similarity(self, db_features, query_features):
            seen.append(np.asarray(db_features["pose"]))
            return super().similarity(db_features, query_features)

    locate.method = AllMatches(
        dataclasses.replace(scene_map, network=Spy(rng)), MODES["default"].of_neighbors(4)
    )
    locate.retrieve(query.images[0], query.intrinsics[0], candidates=others[:3])
    compared = {tuple(row) for row in seen[0]}
    features, _ = scene_map.neighbor_features(others[:3])
    assert {tuple(row) for row in features["pose"]} <= compared


def pose_of(frames) -> np.ndarray:
    from tests.localization.fakes import pose_in_picture

    return pose_in_picture(np.stack(frames.images))


def test_one_neighbour_is_enough_with_depth(rng):
    """Mostly: of 160 random maps with three queries each, 4% of the queries miss the bounds."""
    locate = Localizer(mapped(rng), num_neighbors=1, quarter_turns=False)
    queries, right = looking_frames(rng, 10), 0
    for i in range(10):
        found = locate(queries.images[i], queries.intrinsics[i])
        position, degrees = pose_error(found.world_from_query, queries.world_from_cam[i])
        right += found.success and position < 0.1 and degrees < 1.0
    assert right >= 7


def test_a_network_that_matches_nothing_has_no_such_method(rng):
    frames, network = oracle_frames(rng, 5), OracleNetwork()
    scene_map = SceneMap.from_images(network, encode_frames(frames, network))
    assert Localizer(scene_map).method.fusion == "robust"
    with pytest.raises(UsageError, match="all_matches"):
        Localizer(scene_map, method="all_matches")
    with pytest.raises(UsageError, match="mode is for the method all_matches, not for robust"):
        Localizer(scene_map, mode="default")


def test_it_takes_no_baseline(rng):
    with pytest.raises(UsageError, match="min_baseline is for the methods robust, paper"):
        Localizer(mapped(rng), min_baseline=0)


def test_deviations_hold_the_errors_of_planted_matches(rng):
    """Most errors lie within three deviations of each component."""
    locate, queries = Localizer(mapped(rng, wrong=0.1)), looking_frames(rng, 10)
    within = []
    for i in range(10):
        found = locate(queries.images[i], queries.intrinsics[i])
        true = queries.world_from_cam[i]
        turn = Rotation.from_matrix(true[:3, :3] @ found.world_from_query[:3, :3].T).as_rotvec()
        error = np.r_[turn, true[:3, 3] - found.world_from_query[:3, 3]]
        within.append(error @ np.linalg.solve(found.covariance, error) < 40)
    assert np.mean(within) >= 0.7


def asked_of(scene_map, query, **of_tracks):
    """The answer to a query whose matches have other values of these names."""

    class Other(MatchingOracle):
        def match_tracks(self, *arguments, **options):
            tracks = super().match_tracks(*arguments, **options)
            return tracks.replace(**{name: f(tracks) for name, f in of_tracks.items()})

    network = Other(np.random.default_rng(0))
    locate = Localizer(dataclasses.replace(scene_map, network=network), quarter_turns=False)
    return locate(query.images[0], query.intrinsics[0])


@pytest.mark.parametrize("factor", [1.0, 1.5, 1 / 1.5])
def test_a_focal_length_that_the_map_does_not_have_must_suit(rng, factor):
    """`factor` times the right one is given."""
    scene_map, query = mapped(rng), looking_frames(rng, 1)
    others = scene_map.intrinsics * np.array([[3.0], [3.0], [1.0]])
    scene_map = dataclasses.replace(scene_map, intrinsics=others)
    found = asked_of(scene_map, query, x_query=lambda tracks: tracks.x_query / factor)
    position, _ = pose_error(found.world_from_query, query.world_from_cam[0])
    assert found.success == (factor == 1.0) or position < 0.5


def test_cameras_with_a_focal_length_as_the_maps_are_familiar(rng):
    scene_map = mapped(rng)
    method = Localizer(scene_map).method
    sides = scene_map.image_sizes.max(axis=1)
    focal = scene_map.intrinsics[:, 0, 0] / sides
    for factor, expected in ((1.0, True), (1.05, True), (0.95, True), (1.5, False), (0.5, False)):
        for end in (focal.min(), focal.max()):
            given = np.diag([factor * end * 100, factor * end * 100, 1.0])
            assert method.is_familiar(given, (60, 100)) == expected


def test_what_is_no_match_gives_no_pose(rng):
    found = asked_of(
        mapped(rng), looking_frames(rng, 1), weights=lambda tracks: jnp.zeros_like(tracks.weights)
    )
    assert found.refused and found.confidence == 0


def test_only_what_is_allowed_is_a_neighbour(rng):
    """Fewer than there are places, too: what fills them says nothing."""
    scene_map, queries = mapped(rng, wrong=0.0), looking_frames(rng, 3)
    locate = Localizer(scene_map)
    for i in range(3):
        allowed = np.zeros(COUNT, bool)
        allowed[rng.choice(COUNT, 4, replace=False)] = True
        found = locate(queries.images[i], queries.intrinsics[i], allowed=allowed)
        assert sorted(found.neighbors) == list(np.flatnonzero(allowed))
        assert len(found.location_inliers) == 4
        position, degrees = pose_error(found.world_from_query, queries.world_from_cam[i])
        assert found.success and position < 0.05 and degrees < 0.5


def test_all_allowed_is_as_nothing_said(rng):
    locate, queries = Localizer(mapped(rng, wrong=0.0)), looking_frames(rng, 1)
    query = locate.retrieve(queries.images[0], queries.intrinsics[0])
    again = locate.retrieve(
        queries.images[0], queries.intrinsics[0], allowed=np.ones(COUNT, bool)
    )
    np.testing.assert_array_equal(again.neighbors, query.neighbors)
    np.testing.assert_array_equal(again.similarity, query.similarity)
    for wrong in (np.zeros(COUNT, bool), np.ones(COUNT + 1, bool)):
        with pytest.raises(ValueError, match="each image of the map"):
            locate(queries.images[0], queries.intrinsics[0], allowed=wrong)
