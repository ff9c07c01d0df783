import dataclasses

import jax.numpy as jnp
import jaxlie
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.geometry.fusion import FusedPose
from jaxreloc.images import turn_camera
from jaxreloc.localization import localizer as localizer_module
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.map_depth import with_depth
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.methods import pair_fusion
from jaxreloc.localization.methods.pair_fusion import PairFusion
from jaxreloc.localization.quarter_turns import MIN_CONFIDENCE, turns_to_database
from tests.geometry.planted_tracks import pose_error
from tests.localization.fakes import (
    MatchingOracle,
    UprightOracle,
    looking_frames,
    oracle_frames,
    pose_in_picture,
    sign_picture,
)

COUNT = 21  # of frames, always, for fewer compiled shapes
HEIGHT, WIDTH = 34, 40
NONE = np.zeros(0, int)
INTRINSICS = np.array([[30.0, 0, 18], [0, 45, 20], [0, 0, 1]])


def signed(frames, support):
    """Upright pictures that hold the poses of these frames."""
    pictures = [np.zeros((HEIGHT, WIDTH, 3), np.uint8) for _ in frames.names]
    for picture, pixels in zip(pictures, frames.images, strict=True):
        sign_picture(picture, pixels[0], support)
    return dataclasses.replace(
        frames,
        images=pictures,
        intrinsics=np.tile(INTRINSICS, (len(frames), 1, 1)),
        image_sizes=np.tile([WIDTH, HEIGHT], (len(frames), 1)),
    )


@pytest.fixture(autouse=True)
def first_neighbor_instead_of_fusion(monkeypatch):
    """Its relation is the answer and its support the confidence, for which nothing compiles."""

    def fuse(world_from_db, neighbors, relations, is_neighbor, method, config):
        world_from_first = matrices(world_from_db)[neighbors[:, 0]]
        pose = world_from_first @ matrices(relations.db_from_query)[:, 0]
        confidence = relations.support[:, 0]
        fused = FusedPose(
            world_from_query=pose,
            location_inliers=is_neighbor,
            rotation_inliers=is_neighbor,
            position_covariance=np.tile(np.eye(3), (len(neighbors), 1, 1)),
            rotation_std=np.zeros(len(neighbors)),
            success=confidence > relations.confidence_model.threshold,
        )
        return pose, fused, confidence

    monkeypatch.setattr(pair_fusion, "_fuse_neighbors", fuse)


def matrices(poses: jaxlie.SE3) -> np.ndarray:
    values = np.asarray(poses.wxyz_xyz, np.float64)
    found = np.tile(np.eye(4), (*values.shape[:-1], 1, 1))
    rotation = Rotation.from_quat(values[..., :4].reshape(-1, 4), scalar_first=True)
    found[..., :3, :3] = rotation.as_matrix().reshape(*values.shape[:-1], 3, 3)
    found[..., :3, 3] = values[..., 4:]
    return found


def localizer(rng, **options):
    network, database = UprightOracle(), signed(oracle_frames(rng, COUNT), 1.0)
    scene_map = SceneMap.from_images(network, encode_frames(database, network))
    return Localizer(scene_map, **options)


def turned_clockwise(intrinsics, width, height):
    """By hand: pixel (x, y) is seen at (height - 1 - y, x)."""
    (fx, _, cx), (_, fy, cy), _ = intrinsics
    turned = np.array([[fy, 0, height - 1 - cy], [0, fx, cx], [0, 0, 1]])
    return turned, height, width


def held_askew(image, turns):
    """The picture of a camera that was held turned counterclockwise, and its intrinsics."""
    intrinsics, width, height = INTRINSICS, WIDTH, HEIGHT
    for _ in range(turns):
        intrinsics, width, height = turned_clockwise(intrinsics, width, height)
    return np.ascontiguousarray(np.rot90(image, -turns)), intrinsics


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_the_pose_is_of_the_picture_as_given(rng, turns):
    """Points project, by it and by the given intrinsics, to where the given picture has them."""
    locate, queries = localizer(rng), signed(oracle_frames(rng, COUNT), 0.97)
    image, intrinsics = held_askew(queries.images[0], turns)
    candidates = np.array([3, 5])
    found = locate(image, intrinsics, candidates)
    assert found.success and not found.refused and found.turn_deg == 90 * turns
    assert set(candidates) <= set(found.neighbors)
    points = rng.uniform((-1, -1, 3), (1, 1, 5), (20, 3))
    x, y, z = INTRINSICS @ points.T
    x, y, width, height = x / z, y / z, WIDTH, HEIGHT
    for _ in range(turns):
        x, y, width, height = height - 1 - y, x, height, width
    query_from_upright = np.linalg.inv(found.world_from_query) @ queries.world_from_cam[0]
    seen = points @ query_from_upright[:3, :3].T + query_from_upright[:3, 3]
    projected = intrinsics @ seen.T
    np.testing.assert_allclose(projected[:2] / projected[2:], [x, y], atol=0.2)


def answering(rng, supports):
    """A picture that is answered as another place from each of its sides, and those places."""
    frames, picture = oracle_frames(rng, COUNT), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for turns, support in supports.items():
        sign_picture(np.rot90(picture, turns), frames.images[turns][0], support)
    return picture, frames.world_from_cam


def test_the_most_confident_answer_of_the_turned_ones_is_taken(rng):
    locate = localizer(rng)
    picture, truth = answering(rng, {1: 0.97, 2: 0.99, 3: 0.98})
    found = locate(picture, INTRINSICS, NONE)
    assert found.success and found.turn_deg == 180
    np.testing.assert_allclose(found.world_from_query[:3, 3], truth[2, :3, 3], atol=2e-3)


def test_an_answer_to_the_picture_as_given_is_not_doubted(rng):
    locate = localizer(rng)
    picture, truth = answering(rng, {0: 0.7, 1: 0.97})
    found = locate(picture, INTRINSICS, NONE)
    assert found.success and found.turn_deg == 0
    np.testing.assert_allclose(found.world_from_query[:3, 3], truth[0, :3, 3], atol=2e-3)


@pytest.mark.parametrize("support", [0.4, 0.92])
def test_what_no_turn_makes_sure_stays_refused(rng, support):
    picture, _ = answering(rng, {2: support})
    locate = localizer(rng)
    upright = locate.locate(locate.retrieve(np.rot90(picture, 2), INTRINSICS, NONE))
    assert upright.success == (support == 0.92) and upright.confidence < MIN_CONFIDENCE
    found = locate(picture, INTRINSICS, NONE)
    assert found.refused and not found.success and found.turn_deg == 0


def test_nothing_is_turned_where_it_is_not_wanted(rng):
    picture, _ = answering(rng, {1: 0.97})
    locate = localizer(rng, quarter_turns=False)
    found = locate(picture, INTRINSICS, NONE)
    assert found.refused and not found.success and found.turn_deg == 0


def test_every_try_is_timed(rng, monkeypatch):
    locate, picture = localizer(rng), answering(rng, {1: 0.97})[0]
    times = []
    plain_locate = localizer_module._locate_batch

    def timed_locate(*arguments):
        times.extend(found := plain_locate(*arguments))
        return found

    monkeypatch.setattr(localizer_module, "_locate_batch", timed_locate)
    found = locate(picture, INTRINSICS, NONE)
    assert [x.turn_deg for x in times] == [0, 90, 180, 270]
    for stage, ms in found.stage_ms.items():
        assert ms == pytest.approx(sum(x.stage_ms[stage] for x in times))


class Comparing(PairFusion):
    """Says how much of a turned picture the map shows: its support."""

    def choose(self, ranking, features, candidates, allowed=None):
        found = super().choose(ranking, features, candidates, allowed)
        support = float(np.ravel(features["support"])[0])
        return found._replace(similarity=np.full(len(found.index), support))


@pytest.mark.parametrize("batched", [False, True])
def test_of_turned_pictures_only_the_likeliest_is_located(rng, monkeypatch, batched):
    """The pictures that are not are timed nevertheless."""
    locate = localizer(rng)
    locate.method = Comparing(locate.scene_map)
    asked = []
    plain_relate = locate.method.relate

    def relate(query):
        asked.append(query.view.turn_deg)
        return plain_relate(query)

    monkeypatch.setattr(locate.method, "relate", relate)
    picture, truth = answering(rng, {1: 0.97, 2: 0.99, 3: 0.98})
    if batched:
        found, _ = locate.localize_all([picture] * 2, [INTRINSICS] * 2, batch_size=2)
    else:
        found = locate(picture, INTRINSICS, NONE)
    assert asked == [0, 180] * (1 + batched) or (batched and sorted(asked) == [0, 0, 180, 180])
    assert found.success and found.turn_deg == 180
    np.testing.assert_allclose(found.world_from_query[:3, 3], truth[2, :3, 3], atol=2e-3)
    assert all(found.stage_ms[stage] > 0 for stage in ("prepare", "backbone", "retrieval"))


def test_turns_to_the_database_leave_less_than_half_a_turn(rng):
    """Whatever else tells the query from the database images, if they are of one mind."""
    for _ in range(50):
        turns, rest = rng.integers(4), rng.uniform(-40, 40)
        roll = Rotation.from_euler("z", 90 * turns + rest, degrees=True)
        held = Rotation.random(random_state=rng)
        tilts = Rotation.from_rotvec(rng.normal(0, 0.02, (5, 3)))
        world_from_db = np.tile(np.eye(4), (5, 1, 1))
        world_from_db[:, :3, :3] = (held * tilts).as_matrix()
        world_from_query = np.eye(4)
        world_from_query[:3, :3] = (held * roll).as_matrix()
        found = turns_to_database(world_from_query, world_from_db)
        _, turned_from_given = turn_camera(INTRINSICS, WIDTH, HEIGHT, found)
        left = (roll * Rotation.from_matrix(turned_from_given).inv()).as_euler("zyx", degrees=True)
        np.testing.assert_allclose(left, [rest, 0, 0], atol=1e-6)


class TurnableOracle(MatchingOracle):
    """Its pictures say how they are turned; what is not held as the map is, it matches worse."""

    def prepare(self, image, intrinsics):
        turns = next(k for k in range(4) if is_marked(np.rot90(image, -k)))
        given = np.ascontiguousarray(np.rot90(image, -turns))
        _, turned_from_given = turn_camera(intrinsics, *image.shape[1::-1], turns)
        pose = jaxlie.SE3(jnp.asarray(pose_in_picture(given[None])[0]))
        back = jaxlie.SE3.from_rotation(jaxlie.SO3.from_matrix(jnp.asarray(turned_from_given.T)))
        pixels = np.asarray((pose @ back).wxyz_xyz, np.float32).view(np.uint8)
        return np.tile(pixels[None, :, None], (1, 1, 3)), intrinsics

    def match_tracks(self, *arguments, every_cell=False):
        self._wrong = 0.6 if is_rolled(arguments[2]) else 0.0
        return super().match_tracks(*arguments, every_cell=every_cell)


class OracleInContext(TurnableOracle):
    """Its matches are right in context alone, and of what is held as the map is."""

    has_context = True

    def __init__(self, rng):
        super().__init__(rng, 0.0)
        self.rolled_in_context = []

    def similarity(self, db_features, query_features):
        shown = super().similarity(db_features, query_features)
        return np.zeros_like(shown) if is_rolled(query_features) else shown

    def match_tracks(self, *arguments, every_cell=False):
        self._wrong = 1.0
        return MatchingOracle.match_tracks(self, *arguments, every_cell=every_cell)

    def match_tracks_in_context(self, *arguments):
        self.rolled_in_context.append(is_rolled(arguments[2]))
        return TurnableOracle.match_tracks(self, *arguments, None)


def is_rolled(features):
    roll = Rotation.from_quat(features["pose"][0, :4], scalar_first=True).as_euler("zyx")[0]
    return abs(roll) > np.radians(45)


def is_marked(picture):
    return picture.shape[0] == 1 and (picture[0, :, 1] == np.arange(28)).all()


@pytest.mark.parametrize("rolled", [0, 60, 120, 180, -75])
def test_an_answer_that_is_rolled_is_looked_at_upright(rng, rolled):
    frames = marked_frames(rng)
    picture, pose = rolled_picture(frames, rolled)
    found = map_localizer(TurnableOracle(rng, 0.0), frames)(picture, frames.intrinsics[3])
    assert found.success and found.turn_deg == -90 * round(rolled / 90) % 360
    position, degrees = pose_error(found.world_from_query, pose)
    assert position < 0.05 and degrees < 0.5


def marked_frames(rng):
    frames = looking_frames(rng, 14)
    for picture in frames.images:
        picture[0, :, 1] = np.arange(28)
    return frames


def rolled_picture(frames, rolled):
    """Frame 3 rolled by so many degrees, and its pose."""
    pose = frames.world_from_cam[3].copy()
    pose[:3, :3] @= Rotation.from_euler("z", rolled, degrees=True).as_matrix()
    picture = frames.images[3].copy()
    bytes_of_pose = np.asarray(jaxlie.SE3.from_matrix(jnp.asarray(pose)).wxyz_xyz, np.float32)
    picture[0, :, 0] = bytes_of_pose.view(np.uint8)
    return picture, pose


def map_localizer(network, frames):
    return Localizer(with_depth(SceneMap.from_images(network, encode_frames(frames, network))))


def timed(locate, picture, intrinsics):
    """The answer, whose time is that of all that was retrieved and located."""
    retrieved, located = [], []
    retrieve, answer = locate._retrieve, localizer_module._locate_batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locate, "_retrieve", lambda *x, **y: kept(retrieved, retrieve(*x, **y)))
        patch.setattr(localizer_module, "_locate_batch", lambda *x: kept(located, answer(*x)))
        found = locate(picture, intrinsics)
    clocks = [query.clock.stage_ms for query in retrieved]
    for stage in ("prepare", "backbone", "retrieval"):
        assert found.stage_ms[stage] == pytest.approx(sum(clock[stage] for clock in clocks))
    for stage in ("relate", "fusion"):
        assert found.stage_ms[stage] == pytest.approx(sum(x.stage_ms[stage] for x in located))
    return found


def kept(items, new):
    items.extend(new)
    return new


def test_what_no_turn_makes_sure_is_matched_in_context_in_the_likeliest(rng):
    """Once, alone or in a batch."""
    frames, network = marked_frames(rng), OracleInContext(rng)
    locate, given = map_localizer(network, frames), [0, 90, 180, -90]
    pictures, poses = zip(*(rolled_picture(frames, rolled) for rolled in given))
    alone = [timed(locate, picture, frames.intrinsics[3]) for picture in pictures]
    assert network.rolled_in_context == [False] * len(given)
    together = locate.localize_all(pictures, [frames.intrinsics[3]] * len(given), batch_size=4)
    assert network.rolled_in_context == [False] * 2 * len(given)
    for rolled, pose, *answers in zip(given, poses, alone, together, strict=True):
        for found in answers:
            position, degrees = pose_error(found.world_from_query, pose)
            assert found.success and found.turn_deg == -rolled % 360
            assert position < 0.05 and degrees < 0.5
            assert all(found.stage_ms[x] > 0 for x in ("prepare", "relate", "fusion"))


def test_batches_give_the_answers_of_single_queries(rng):
    locate, queries = localizer(rng), signed(oracle_frames(rng, COUNT), 0.97)
    queries.images[4][:] = 0  # is refused
    askew = [held_askew(image, i % 4) for i, image in enumerate(queries.images[:6])]
    together = locate.localize_all(*zip(*askew), batch_size=4)
    assert [x.turn_deg for x in together] == [0, 90, 180, 270, 0, 90]
    for one, batched in zip(askew, together, strict=True):
        alone = locate(*one, NONE)
        assert (alone.success, alone.refused) == (batched.success, batched.refused)
        assert alone.turn_deg == batched.turn_deg
        assert alone.confidence == pytest.approx(batched.confidence, abs=1e-5)
        np.testing.assert_array_equal(alone.neighbors, batched.neighbors)
        if alone.success:
            np.testing.assert_allclose(alone.world_from_query, batched.world_from_query, atol=1e-4)
