"""Photographic effects leave the geometry alone."""

import dataclasses

import cv2
import numpy as np
import pytest

from tfds_builders.rooms.photography import (
    photograph,
    random_development,
    spoilt,
    textured_share,
)

INTRINSICS = np.array([[130.0, 0, 63.5], [0, 130.0, 47.5], [0, 0, 1]])


@pytest.fixture
def plain_development(rng):
    return dataclasses.replace(
        random_development(rng),
        white_balance=np.ones(3, np.float32),
        vignetting=0.0,
        read_noise=0.0,
        shot_noise=0.0,
        shake=0.0,
    )


def a_scene(rng):
    coarse = rng.uniform(0, 1, (6, 8, 3)).astype(np.float32) ** 2
    return cv2.resize(coarse, (128, 96), interpolation=cv2.INTER_CUBIC).clip(0.01, None)


def test_exposure_does_not_depend_on_the_scenes_brightness(rng, plain_development):
    scene, seed = a_scene(rng), int(rng.integers(2**32))
    pictures = [
        photograph(np.random.default_rng(seed), scene * gain, INTRINSICS, plain_development)
        for gain in (np.float32(0.1), np.float32(1), np.float32(30))
    ]
    for picture in pictures[1:]:
        assert np.abs(picture.astype(int) - pictures[0]).max() <= 3
    assert 40 < pictures[0].mean() < 200


def test_brighter_scene_points_are_brighter_pixels(rng, plain_development):
    scene = np.tile(np.geomspace(0.05, 5, 128, dtype=np.float32)[None, :, None], (96, 1, 3))
    picture = photograph(rng, scene, INTRINSICS, plain_development)
    assert (np.diff(picture[48, :, 1].astype(int)) >= 0).all()
    assert picture[48, 0, 1] < 80 and picture[48, -1, 1] > 190


def test_white_balance_scales_the_channels(rng, plain_development):
    warm = dataclasses.replace(plain_development, white_balance=np.float32([1.3, 1.0, 0.7]))
    picture = photograph(rng, np.full((96, 128, 3), 0.5, np.float32), INTRINSICS, warm)
    red, green, blue = picture.reshape(-1, 3).mean(0)
    assert red > green + 5 and green > blue + 5


def test_noise_has_the_stated_variance(rng, plain_development):
    noisy = dataclasses.replace(plain_development, shot_noise=0.002, softness=0.3, contrast=0.5)
    flat = np.full((96, 128, 3), 0.4, np.float32)
    clean = photograph(np.random.default_rng(1), flat, INTRINSICS, plain_development).astype(float)
    spread = photograph(np.random.default_rng(1), flat, INTRINSICS, noisy).astype(float)
    assert clean.std() < 0.6
    level = noisy.exposure  # of this flat scene, up to the frame's own exposure error
    linear = np.sqrt(noisy.shot_noise * level)
    curve = 255 * (1 - np.exp(-1.7 * np.array([level - linear, level + linear]))) ** 0.5
    assert spread.std() == pytest.approx(np.ptp(curve) / 2, rel=0.2)


def test_shake_blurs_about_the_unmoved_middle(rng, plain_development):
    """The blurred picture of a symmetric dot keeps the dot's centre."""
    y, x = np.mgrid[:96, :128]
    dot = np.exp(-((x - 70) ** 2 + (y - 40) ** 2) / 8).astype(np.float32)
    scene = np.repeat(dot[..., None], 3, 2) + np.float32(0.02)
    spreads = []
    for shake in (0.0, np.deg2rad(8)):
        centres, widths = [], []
        for _ in range(12):
            development = dataclasses.replace(plain_development, shake=shake)
            picture = photograph(rng, scene, INTRINSICS, development).astype(float)[..., 1]
            weight = (picture - np.median(picture)).clip(0)
            mean = [(weight * c).sum() / weight.sum() for c in (x, y)]
            centres.append(mean)
            widths.append((weight * (np.hypot(x - mean[0], y - mean[1]))).sum() / weight.sum())
        off = np.abs(np.array(centres) - (70, 40)).max(axis=1)
        assert np.median(off) < 0.3 and off.max() < 3  # a shake along an arc moves it a little
        spreads.append(np.mean(widths))
    assert spreads[1] > 1.15 * spreads[0]


def test_pictures_depend_on_the_generator_alone(rng):
    scene, development, seed = a_scene(rng), random_development(rng), int(rng.integers(2**32))
    first, again = (
        photograph(np.random.default_rng(seed), scene, INTRINSICS, development) for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)


def test_textured_share_tells_corners_from_edges_and_planes(rng):
    checks = np.kron(np.indices((12, 16)).sum(0) % 2, np.ones((4, 4)))
    pictures = {
        "checks": checks,
        "stripes": np.tile(checks[:1], (48, 1)),
        "plain": np.full((48, 64), 0.5),
        "half": np.where(np.arange(64) < 32, checks, 0.5),
    }
    gain = rng.uniform(0.1, 10)
    share = {
        name: textured_share(
            np.repeat((0.1 + 0.5 * p)[..., None], 3, 2).astype(np.float32) * np.float32(gain)
        )
        for name, p in pictures.items()
    }
    assert share["plain"] == 0 and share["stripes"] == 0
    assert share["checks"] > 0.5
    assert share["half"] == pytest.approx(share["checks"] / 2, rel=0.15)


def test_what_is_spoilt_is_worse_in_some_way_and_otherwise_the_same(rng):
    """Three in ten escape each of four harms, so that about one in eleven is not harmed at all."""
    plain = random_development(rng)
    found = [spoilt(rng, plain) for _ in range(300)]
    harmed = {
        "shake": [x.shake > plain.shake for x in found],
        "softness": [x.softness >= 1.0 for x in found],
        "read_noise": [x.read_noise != plain.read_noise for x in found],
        "exposure": [x.exposure != plain.exposure for x in found],
    }
    for name, flags in harmed.items():
        assert 0.3 < np.mean(flags) < 0.6, name
    assert 0.8 < np.mean(np.any(list(harmed.values()), axis=0)) < 1
    for development in found:
        assert plain.exposure / 4.6 <= development.exposure <= plain.exposure * 3.1
        same = "white_balance", "contrast", "vignetting"
        assert all(np.all(getattr(development, x) == getattr(plain, x)) for x in same)
