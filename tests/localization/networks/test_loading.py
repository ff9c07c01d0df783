import dataclasses

import jax
import numpy as np
import pytest

from jaxreloc.localization.networks.loading import canvas, load_network, pretrained_network
from jaxreloc.localization.networks.matcher import ContextMatcher, Matcher
from jaxreloc.localization.networks.pose_network import PoseNetwork
from tests.conformance import assert_conforms


@pytest.mark.parametrize(
    "sizes, expected",
    [
        ([[640, 480]] * 3, (384, 512)),
        ([[360, 640]], (512, 288)),
        ([[4000, 3000], [4000, 3000], [3000, 4000]], (384, 512)),
        ([[100, 100]], (512, 512)),
        ([[4000, 20]], (32, 512)),
    ],
)
def test_canvas_has_the_aspect_of_most_images(sizes, expected):
    assert canvas(np.array(sizes)) == expected


@pytest.fixture(scope="module")
def network():
    return pretrained_network(np.array([[64, 48]]))


def test_it_is_a_network_that_matches_in_two_ways(network):
    for protocol in (PoseNetwork, Matcher, ContextMatcher):
        assert_conforms(network, protocol)
    assert network.has_context is True
    np.testing.assert_array_equal(network.cell_pixels()[0, :2], [[3.5, 3.5], [11.5, 3.5]])
    assert network.cell_pixels().shape == (384 // 8, 512 // 8, 2)


def test_image_is_fitted_whole(network):
    """Left half, right half; the canvas of 512 x 384 pixels is black around a picture of others."""
    K = np.array([[60.0, 0, 31.5], [0, 50.0, 10.0], [0, 0, 1]])
    picture = np.full((48, 64, 3), (10, 20, 30), np.uint8)
    picture[:, 32:] = 200
    image, intrinsics = network.prepare(picture, K)
    assert image.shape == (384, 512, 3)
    # Eight times as large; four pixels at either side of the middle are interpolated.
    np.testing.assert_array_equal(image[:, :252], np.broadcast_to((10, 20, 30), (384, 252, 3)))
    np.testing.assert_array_equal(image[:, 260:], 200)
    # (31.5 + 0.5) * 8 - 0.5, (10 + 0.5) * 8 - 0.5
    np.testing.assert_allclose(intrinsics, [[480, 0, 255.5], [0, 400, 83.5], [0, 0, 1]])

    image, intrinsics = network.prepare(picture[:, 32:], K)  # 32 x 48 become 256 x 384
    np.testing.assert_array_equal(image[:, 128:384], 200)
    assert not image[:, :128].any() and not image[:, 384:].any()
    np.testing.assert_allclose(intrinsics, [[480, 0, 255.5 + 128], [0, 400, 83.5], [0, 0, 1]])


def test_equal_networks_are_one(network, tmp_path):
    """A map's copy of the network is the one in use; other canvases and other weights are not."""
    sizes = np.array([[64, 48]])
    assert pretrained_network(2 * sizes) is network
    assert load_network(network.loaded.save(tmp_path)) is network
    assert pretrained_network(sizes[:, ::-1]) is not network
    assert pretrained_network(sizes, estimator="matches") is not network
    variables = jax.tree.map(lambda x: x + 1, network.loaded.variables)
    loaded = dataclasses.replace(network.loaded, variables=variables)
    assert load_network(loaded.save(tmp_path)) is not network
