import cv2
import numpy as np
import pytest

from jaxreloc.data import color_jitter
from tests.images.test_resizing import random_intrinsics


def one_pixel(*rgb):
    return np.array([[rgb]], np.uint8)


def test_brightness_by_hand():
    np.testing.assert_array_equal(
        color_jitter.adjust_brightness(one_pixel(10, 100, 200), 1.3), one_pixel(13, 130, 255)
    )
    np.testing.assert_array_equal(
        color_jitter.adjust_brightness(one_pixel(10, 100, 200), 0.0), one_pixel(0, 0, 0)
    )


def test_saturation_by_hand():
    # Luma of (100, 50, 200): 29.9 + 29.35 + 22.8 = 82.05.
    grey = color_jitter.adjust_saturation(one_pixel(100, 50, 200), 0.0)
    np.testing.assert_array_equal(grey, one_pixel(82, 82, 82))
    # 1.4 * v - 0.4 * 82.05: 107.18, 37.18, 247.18.
    vivid = color_jitter.adjust_saturation(one_pixel(100, 50, 200), 1.4)
    np.testing.assert_array_equal(vivid, one_pixel(107, 37, 247))


def test_contrast_by_hand():
    # Lumas 82.05 and 0: their mean is 41.025.
    image = np.concatenate([one_pixel(100, 50, 200), one_pixel(0, 0, 0)], axis=1)
    # 1.4 * v - 0.4 * 41.025 and 0.5 * v + 0.5 * 41.025.
    stark = color_jitter.adjust_contrast(image, 1.4)
    np.testing.assert_array_equal(stark, [[[124, 54, 255], [0, 0, 0]]])
    flat = color_jitter.adjust_contrast(image, 0.5)
    np.testing.assert_array_equal(flat, [[[71, 46, 121], [21, 21, 21]]])


@pytest.mark.parametrize(
    "adjust",
    [
        color_jitter.adjust_brightness,
        color_jitter.adjust_contrast,
        color_jitter.adjust_saturation,
    ],
)
def test_adjusting_by_one_changes_nothing(rng, adjust):
    image = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(adjust(image, 1.0), image)


def test_jitter_is_the_three_adjustments_in_some_order(rng):
    """Against float arithmetic written out, over all orders that the generator comes up with."""
    image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    intrinsics = random_intrinsics(rng)
    luma = np.array([0.299, 0.587, 0.114])

    def by_float(order, factors):
        x = image.astype(np.float64)
        for k in order:
            towards = (0.0, (x @ luma).mean(), (x @ luma)[..., None])[k]
            x = np.clip(factors[k] * x + (1 - factors[k]) * towards, 0, 255)
        return x

    orders = set()
    for seed in range(60):
        draws, replay = np.random.default_rng(seed), np.random.default_rng(seed)
        jittered, same = color_jitter.color_jitter(image, intrinsics, 0.4, draws)
        factors = replay.uniform(0.6, 1.4, 3)
        order = tuple(replay.permutation(3))
        np.testing.assert_allclose(jittered, by_float(order, factors), atol=2.5)
        np.testing.assert_array_equal(same, intrinsics)
        orders.add(order)
    assert len(orders) == 6


def test_colour_steps_agree_with_opencv_grey(rng):
    image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    grey = color_jitter.adjust_saturation(image, 0.0)
    expected = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    for channel in range(3):
        np.testing.assert_allclose(grey[..., channel], expected, atol=1)


def test_another_light_keeps_black_and_the_order_of_tones(rng):
    """Each colour's tones are a power of what they were, with one exponent for all three."""
    tones = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    changed = [color_jitter.change_light(tones, rng)[0].astype(float) for _ in range(200)]
    gains, gammas = [], []
    for image in changed:
        assert (image[0] == 0).all() and (np.diff(image, axis=0) >= 0).all()
        unclipped = (image[60:120] > 5) & (image[60:120] < 250)
        logs = np.log(image[60:120] / 255), np.log(np.arange(60, 120) / 255)[:, None]
        slopes = [
            np.polyfit(logs[1][ok, 0], logs[0][ok, c], 1)
            for c, ok in enumerate(unclipped.T)
            if ok.sum() > 30
        ]
        if len(slopes) == 3:
            assert np.ptp([slope for slope, _ in slopes]) < 0.15
            gammas.append(slopes[0][0])
            gains.append([gain for _, gain in slopes])
    assert len(gains) > 150
    assert 0.15 < np.std(np.log(gammas)) < 0.25
    assert 0.09 < np.std(gains) < 0.15
