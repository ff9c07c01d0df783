"""A network's file that does not say which pictures it takes is one line."""

import numpy as np
import pytest

from jaxreloc.localization.networks.loading import load_network
from jaxreloc.models.weights import saved_network
from jaxreloc.usage import UsageError
from tests.training import tiny


@pytest.mark.parametrize(
    "data, field",
    [
        ({}, "short_side"),
        ({"short_side": 40}, "crop"),
        ({"short_side": 40, "crop": 0}, "crop"),
        ({"short_side": 10**12, "crop": 32}, "short_side"),
        ({"short_side": [40], "crop": 32}, "short_side"),
        ({"short_side": "40", "crop": 32}, "short_side"),
        (None, "short_side"),
    ],
)
def test_sizes_of_pictures_are_checked(tmp_path, monkeypatch, data, field):
    tiny.install(monkeypatch.setattr, monkeypatch.setitem)
    config = {"model": {"backbone": "tiny"}, "data": data}
    saved_network.save_network(tmp_path, config, tiny.variables())
    with pytest.raises(UsageError, match=f"{tmp_path}: .* no data.{field} from 8 to 8192 pixels"):
        load_network(tmp_path)


def test_a_right_one_is_read(tmp_path, monkeypatch):
    tiny.install(monkeypatch.setattr, monkeypatch.setitem)
    config = {"model": {"backbone": "tiny"}, "data": {"short_side": 40, "crop": 32}}
    saved_network.save_network(tmp_path, config, tiny.variables())
    network = load_network(tmp_path)
    image, intrinsics = network.prepare(np.zeros((48, 64, 3), np.uint8), np.eye(3))
    assert image.shape == (32, 32, 3) and intrinsics.shape == (3, 3)


def test_whole_images_are_fitted_into_the_size_trained_on(tmp_path, monkeypatch, rng):
    tiny.install(monkeypatch.setattr, monkeypatch.setitem)
    config = {"model": {"backbone": "tiny"}, "data": {"image_size": [24, 32], "crop": None}}
    saved_network.save_network(tmp_path, config, tiny.variables())
    network = load_network(tmp_path)
    picture = rng.integers(1, 255, (48, 64, 3), np.uint8)
    image, intrinsics = network.prepare(picture, np.diag([64.0, 64.0, 1.0]))
    assert image.shape == (24, 32, 3) and (image > 0).all()
    np.testing.assert_allclose(np.diag(intrinsics), [32, 32, 1])
    assert len(network.descriptor(network.encode(image[None]))) == 1
