"""Whole images through a network that matches: the canvas, its black border, matches and poses."""

import cv2
import jax
import numpy as np
import pytest

from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.localization.networks.loading import load_network
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.models.weights.network_weights import imagenet_matcher, shipped_matcher
from jaxreloc.usage import UsageError
from tests.models.blank_head import blank_headed_matcher

CANVAS = (128, 160)
INTRINSICS = np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]])


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> MatchNetwork:
    folder = tmp_path_factory.mktemp("matcher")
    blank_headed_matcher(CANVAS).save(folder)
    return load_network(folder)


def photograph(rng, height: int, width: int) -> np.ndarray:
    """A picture with detail of every size and no black."""
    picture = np.zeros((height, width, 3), np.float32)
    for octave in range(6):
        noise = rng.normal(size=(3 << octave, 4 << octave, 3)).astype(np.float32)
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) / 1.3**octave
    return np.clip(128 + 30 * picture, 1, 255).astype(np.uint8)


def encode(network, picture):
    image, intrinsics = network.prepare(picture, INTRINSICS)
    return network.encode(image[None]), intrinsics[None].astype(np.float32)


def test_whole_image_is_on_the_canvas(network, rng):
    picture = photograph(rng, 240, 320)
    image, intrinsics = network.prepare(picture, INTRINSICS)
    assert image.shape == (*CANVAS, 3)
    corners = np.array([[-0.5, -0.5, 1], [319.5, 239.5, 1]])
    on_canvas = (intrinsics @ np.linalg.inv(INTRINSICS) @ corners.T).T
    np.testing.assert_allclose(on_canvas[:, :2], [[-0.5, 3.5], [159.5, 123.5]], atol=1e-6)
    assert (image[:4] == 0).all() and (image[-4:] == 0).all() and (image[4:-4] > 0).all()


def test_kept_features_are_small_and_black_cells_empty(network, rng):
    features, _ = encode(network, photograph(rng, 100, 320))  # 50 rows on 128
    assert {x.dtype.name for x in jax.tree.leaves(features.cells)} == {"int8"}
    fine = np.asarray(features.cells.fine)[0]
    rows_with_content = np.flatnonzero(fine.any(axis=(1, 2)))
    np.testing.assert_array_equal(rows_with_content, np.arange(39 // 8, 88 // 8 + 1))
    np.testing.assert_allclose(np.linalg.norm(network.descriptor(features)), 1, rtol=1e-5)


def test_a_map_keeps_a_quarter_of_the_bytes_in_the_first_format(network, rng):
    features, _ = encode(network, photograph(rng, 240, 320))
    kept = network.kept(features)
    formats = [jax.tree.structure(x) for x in (kept, features)]
    assert formats == list(network.feature_formats)
    sizes = [sum(x.nbytes for x in jax.tree.leaves(each.cells)) for each in (kept, features)]
    assert sizes[0] < 0.27 * sizes[1]  # the rest are means and deviations


@pytest.mark.parametrize("is_kept", [False, True])
def test_matches_follow_a_shifted_picture(network, rng, is_kept):
    """A cell and its match see the same piece of the picture."""
    large = photograph(rng, 240, 384)
    query, query_intrinsics = encode(network, large[:, :320])
    db, db_intrinsics = encode(network, large[:, 64:])  # 32 pixels of the canvas to the left
    both = jax.tree.map(lambda *x: np.concatenate(x), db, query)
    both = network.kept(both) if is_kept else both
    intrinsics = np.concatenate([db_intrinsics, query_intrinsics])
    matches = network.match(both, intrinsics, query, query_intrinsics)
    assert matches.x_query.shape[0] == 2
    for k, shift_px in ((0, -64), (1, 0)):
        moved = 300 * np.asarray(matches.x_db[k] - matches.x_query[k])
        most_confident = moved[:40]
        np.testing.assert_allclose(np.median(most_confident, axis=0), [shift_px, 0], atol=2.0)


def test_still_camera_is_a_valid_pose_without_rotation(network, rng):
    features, intrinsics = encode(network, photograph(rng, 240, 320))
    relations = network.relate(features, intrinsics, features, intrinsics)
    assert np.asarray(relations.valid).all()
    w = np.abs(np.asarray(relations.db_from_query.wxyz_xyz)[0, 0])
    angle = 2 * np.arccos(np.clip(w, 0, 1))
    assert angle < 0.01


def test_canvas_has_sides_of_multiples_of_32():
    with pytest.raises(ValueError, match="500.*multiples of 32"):
        imagenet_matcher((512, 500))


@pytest.mark.slow
def test_real_photographs_are_related(shared_data):
    """By the network that ships; SIFT on the full photographs reaches 1.2 deg."""
    network = MatchNetwork(shipped_matcher((512, 288)))
    frames = read_posed_images(shared_data / "fox").select(range(0, 48, 4))
    encoded = [
        network.encode(network.prepare(image, intrinsics)[0][None])
        for image, intrinsics in zip(frames.images, frames.intrinsics, strict=True)
    ]
    on_canvas = np.stack(
        [network.prepare(frames.images[i], frames.intrinsics[i])[1] for i in range(len(frames))]
    ).astype(np.float32)
    rotation_deg, direction_deg, valid = [], [], []
    for q in range(len(frames) - 1):
        d = q + 1
        relations = network.relate(encoded[d], on_canvas[[d]], encoded[q], on_canvas[[q]])
        true = np.linalg.inv(frames.world_from_cam[d]) @ frames.world_from_cam[q]
        found = np.asarray(relations.db_from_query.as_matrix())[0]
        rotation_deg.append(rotation_angle_deg(found[:3, :3], true[:3, :3]))
        direction_deg.append(angle_deg(found[:3, 3], true[:3, 3]))
        valid.append(bool(relations.valid[0]))
    assert np.mean(valid) > 0.7
    assert np.median(rotation_deg) < 1.2
    assert np.median(direction_deg) < 2


def rotation_angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    return np.rad2deg(2 * np.arcsin(np.linalg.norm(a - b) / np.sqrt(8)))


def angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    return np.rad2deg(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b))


def test_an_unknown_estimator_is_named():
    with pytest.raises(UsageError, match="unknown estimator 'best'; known: matches, network"):
        MatchNetwork(blank_headed_matcher(CANVAS), estimator="best")
