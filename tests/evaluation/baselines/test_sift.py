import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.evaluation.baselines import sift

INTRINSICS = np.array([[400.0, 0, 319.5], [0, 400.0, 239.5], [0, 0, 1]])


def planted_features(rng, n=300, outliers=0.3):
    """Two wide views, a metre apart, of random points, and descriptors of their own for each.

    Some points are seen at a wrong place: 20 pixels from the epipolar line or more, since one
    near the line agrees with the true pose as well as with others.
    """
    direction = rng.normal(size=3)
    db_from_query = np.eye(4)
    db_from_query[:3, :3] = Rotation.from_rotvec(rng.normal(size=3) * 0.1).as_matrix()
    db_from_query[:3, 3] = direction / np.linalg.norm(direction)
    x_query = rng.uniform([-4, -4, 3], [4, 4, 8], (n, 3))
    x_db = x_query @ db_from_query[:3, :3].T + db_from_query[:3, 3]
    descriptors = rng.random((n, 128))
    descriptors = np.sqrt(descriptors / descriptors.sum(axis=1, keepdims=True))
    points_db = x_db[:, :2] / x_db[:, 2:]
    lines = np.cross(db_from_query[:3, 3], x_query @ db_from_query[:3, :3].T)
    for i in np.flatnonzero(rng.random(n) < outliers):
        distance_px = 0
        while distance_px < 20:
            points_db[i] = rng.uniform(-1, 1, 2)
            distance_px = 400 * abs(lines[i] @ [*points_db[i], 1]) / np.linalg.norm(lines[i, :2])
    query = sift.SiftFeatures(x_query[:, :2] / x_query[:, 2:], descriptors.astype(np.float32), 400)
    db = sift.SiftFeatures(points_db, descriptors.astype(np.float32), 400)
    return db, query, db_from_query


def test_planted_pose_is_found_among_outliers(rng):
    db, query, truth = planted_features(rng)
    relation = sift.relate(db, query)
    pose = relation.db_from_query
    angle = (
        Rotation.from_matrix(pose[:3, :3]).inv() * Rotation.from_matrix(truth[:3, :3])
    ).magnitude()
    direction = truth[:3, 3] / np.linalg.norm(truth[:3, 3])
    assert np.rad2deg(angle) < 0.5
    assert np.rad2deg(np.arccos(np.clip(pose[:3, 3] @ direction, -1, 1))) < 5


def test_match_is_mutual_and_passes_the_ratio_test(rng):
    db, query, _ = planted_features(rng, n=50)
    np.testing.assert_array_equal(sift.match(query, db), np.tile(np.arange(50)[:, None], 2))
    doubled = sift.SiftFeatures(
        np.concatenate([db.points] * 2), np.concatenate([db.descriptors] * 2), db.focal_px
    )
    assert len(sift.match(query, doubled)) == 0


def test_too_few_matches_give_none(rng):
    db, query, _ = planted_features(rng, n=sift.MIN_INLIERS - 1)
    relation = sift.relate(db, query)
    assert relation.db_from_query is None and not relation.inliers.any()


@pytest.mark.parametrize("value", [0, 128])
def test_blank_image_has_no_features_and_no_pose(value):
    blank = sift.extract(np.full((480, 640, 3), value, np.uint8), INTRINSICS)
    assert blank.points.shape == (0, 2) and blank.descriptors.shape == (0, 128)
    assert sift.relate(blank, blank).db_from_query is None


def test_points_are_on_the_normalised_plane_of_the_pixel_centre_convention():
    image = np.zeros((480, 640, 3), np.uint8)
    image[200:280, 280:360] = 255
    points = sift.extract(image, INTRINSICS).points
    # The square is centred on pixel (319.5, 239.5), which is the principal point.
    assert len(points) > 0
    np.testing.assert_allclose(points.min(axis=0), -points.max(axis=0), atol=2 / 400)
