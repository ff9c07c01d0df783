"""Epipolar lines against projected points, and what is drawn."""

import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.training.monitoring import epipolar_lines

SHAPE = (90, 120, 3)


def random_intrinsics(rng):
    focal = rng.uniform(80, 140, 2)
    return np.array(
        [[focal[0], 0, rng.uniform(50, 70)], [0, focal[1], rng.uniform(35, 55)], [0, 0, 1]]
    )


def random_pose(rng):
    rotation = Rotation.from_rotvec(rng.normal(size=3) * 0.2)
    return np.r_[rotation.as_quat(scalar_first=True), rng.normal(size=3) * 0.4]


def project(intrinsics, points):
    pixels = points @ intrinsics.T
    return pixels[:, :2] / pixels[:, 2:]


def test_a_point_seen_by_both_cameras_lies_on_its_line(rng):
    k_db, k_query, pose = random_intrinsics(rng), random_intrinsics(rng), random_pose(rng)
    in_query = rng.uniform(-1, 1, (40, 3)) + np.array([0, 0, 4])
    in_db = Rotation.from_quat(pose[:4], scalar_first=True).apply(in_query) + pose[4:]
    lines = epipolar_lines.epipolar_lines(project(k_db, in_db), pose, k_db, k_query)
    pixels = project(k_query, in_query)
    distance = np.sum(lines[:, :2] * pixels, axis=1) + lines[:, 2]
    distance_px = distance / np.linalg.norm(lines[:, :2], axis=1)
    np.testing.assert_allclose(distance_px, 0, atol=1e-6)


def test_salient_points_are_the_corners_of_a_square():
    image = np.zeros(SHAPE, np.uint8)
    image[30:60, 40:80] = 255
    points = epipolar_lines.salient_points(image)
    corners = np.array([[39.5, 29.5], [79.5, 29.5], [39.5, 59.5], [79.5, 59.5]])
    nearest = np.linalg.norm(points[:, None] - corners[None], axis=2).min(axis=0)
    assert len(points) == 4 and np.all(nearest < 2)


def test_true_and_predicted_lines_are_drawn_on_the_query_side(rng):
    db, query = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    db[30:60, 40:80] = 255
    k = np.array([[100.0, 0, 60], [0, 100, 45], [0, 0, 1]])
    # Sideways motion: every line is a row of the image, that of its point.
    sideways = np.array([1.0, 0, 0, 0, 0.5, 0, 0])
    upwards = np.array([1.0, 0, 0, 0, 0, 0.5, 0])
    picture = epipolar_lines.draw_pair(db, query, k, k, sideways, upwards)
    assert picture.shape == (90, 240, 3)
    right = picture[:, 120:]
    rows = np.rint(epipolar_lines.salient_points(db)[:, 1]).astype(int)
    columns = np.rint(epipolar_lines.salient_points(db)[:, 0]).astype(int)
    away = np.setdiff1d(np.arange(120), np.r_[columns - 1, columns, columns + 1])
    # Lines are smoothed: their colour prevails.
    assert np.all(np.argmax(right[rows][:, away], axis=2) == np.argmax(epipolar_lines.TRUE_RGB))
    assert np.all(np.argmax(right[0][columns], axis=1) == np.argmax(epipolar_lines.PREDICTED_RGB))
    assert np.all(query == 0) and not np.array_equal(picture[:, :120], db)


def test_a_flat_image_and_a_pair_without_baseline_have_no_lines():
    flat = np.full(SHAPE, 7, np.uint8)
    still = np.array([1.0, 0, 0, 0, 0, 0, 0])
    picture = epipolar_lines.draw_pair(flat, flat, np.eye(3), np.eye(3), still, still)
    assert np.all(picture == 7)
