import cv2
import numpy as np

from jaxreloc.evaluation.report.matchers import SiftMatcher, to_pixels

K = np.array([[300.0, 0, 159.5], [0, 310.0, 119.5], [0, 0, 1]])


def test_pixels_of_the_normalised_plane(rng):
    points = rng.normal(size=(20, 3)) + [0, 0, 5]
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), K, None)
    found = to_pixels(points[:, :2] / points[:, 2:], K)
    np.testing.assert_allclose(found, expected[:, 0], atol=1e-6)


def test_sift_finds_a_shifted_picture_where_it_is(rng):
    coarse = rng.integers(0, 256, (40, 50), np.uint8)
    texture = cv2.resize(coarse, (500, 400), interpolation=cv2.INTER_CUBIC)
    texture = np.repeat(texture[..., None], 3, axis=2)
    views = [texture[60:300, 60:380], texture[80:320, 90:410], np.zeros((240, 320, 3), np.uint8)]
    matcher = SiftMatcher(views[1:], np.stack([K, K]))
    shifted, blank = matcher(views[0], K, np.array([0, 1]))
    assert len(shifted.query_px) > 20 and len(blank.query_px) == 0
    offset = np.median(shifted.query_px - shifted.db_px, axis=0)
    np.testing.assert_allclose(offset, [30, 20], atol=0.5)
    assert shifted.inliers.shape == (len(shifted.query_px),)
