import dataclasses

import jax
import numpy as np
import pytest

from jaxreloc.localization.networks.loading import canvas, load_network, pretrained_network


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


def test_image_is_fitted_whole(rng):
    network = pretrained_network(np.array([[64, 48]]))
    image, _ = network.prepare(rng.integers(1, 255, (48, 64, 3), np.uint8), np.eye(3))
    assert image.shape == (384, 512, 3) and (image > 0).mean() > 0.99


def test_equal_networks_are_one(tmp_path):
    """A map's copy of the network is the one in use; other canvases and other weights are not."""
    sizes = np.array([[64, 48]])
    network = pretrained_network(sizes)
    assert pretrained_network(2 * sizes) is network
    assert load_network(network.loaded.save(tmp_path)) is network
    assert pretrained_network(sizes[:, ::-1]) is not network
    assert pretrained_network(sizes, estimator="matches") is not network
    variables = jax.tree.map(lambda x: x + 1, network.loaded.variables)
    loaded = dataclasses.replace(network.loaded, variables=variables)
    assert load_network(loaded.save(tmp_path)) is not network
