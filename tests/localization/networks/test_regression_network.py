"""A network's file that does not say which pictures it takes is one line."""

import cv2
import jax
import numpy as np
import pytest

from jaxreloc.localization.networks.loading import load_network
from jaxreloc.localization.networks.matcher import Matcher
from jaxreloc.localization.networks.pose_network import PoseNetwork
from jaxreloc.models import build_network, first_variables
from jaxreloc.models.weights import saved_network
from jaxreloc.usage import UsageError
from tests.conformance import assert_conforms
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
    message = f"{tmp_path}/network.safetensors: .* no data.{field} from 8 to 8192 pixels"
    with pytest.raises(UsageError, match=message):
        load_network(tmp_path)


def test_a_right_one_is_read(tmp_path, monkeypatch, rng):
    """64 x 48 pixels become 53 x 40; the middle begins 10 columns and 4 rows further on."""
    tiny.install(monkeypatch.setattr, monkeypatch.setitem)
    config = {"model": {"backbone": "tiny"}, "data": {"short_side": 40, "crop": 32}}
    saved_network.save_network(tmp_path, config, tiny.variables())
    network = load_network(tmp_path)
    assert_conforms(network, PoseNetwork)
    assert not isinstance(network, Matcher)
    picture = rng.integers(0, 256, (48, 64, 3), np.uint8)
    K = np.array([[64.0, 0, 31.5], [0, 48.0, 23.5], [0, 0, 1]])
    image, intrinsics = network.prepare(picture, K)
    whole = cv2.resize(picture, (53, 40), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(image, whole[4:36, 10:42])
    # 32 * 53 / 64 - 0.5 - 10, 24 * 40 / 48 - 0.5 - 4
    np.testing.assert_allclose(intrinsics, [[53, 0, 16], [0, 40, 15.5], [0, 0, 1]])


def test_whole_images_are_fitted_into_the_size_trained_on(tmp_path, monkeypatch, rng):
    tiny.install(monkeypatch.setattr, monkeypatch.setitem)
    config = {"model": {"backbone": "tiny"}, "data": {"image_size": [24, 32], "crop": None}}
    saved_network.save_network(tmp_path, config, tiny.variables())
    network = load_network(tmp_path)
    picture = rng.integers(1, 255, (48, 64, 3), np.uint8)
    image, intrinsics = network.prepare(picture, np.diag([64.0, 64.0, 1.0]))
    means = picture.reshape(24, 2, 32, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(image, means, atol=0.51)
    np.testing.assert_allclose(intrinsics, [[32, 0, -0.25], [0, 32, -0.25], [0, 0, 1]])
    descriptor = network.descriptor(network.encode(image[None]))
    assert len(descriptor) == 1 and np.linalg.norm(descriptor) == pytest.approx(1, abs=1e-5)


def test_retrieval_by_imagenets_features_whatever_was_trained(tmp_path, rng):
    """Descriptors are those of the untrained backbone; relations are the trained network's."""
    model = {"backbone": "efficientnet_lite0", "retrieval": "imagenet"}
    network = build_network(model)
    imagenet = first_variables(model | {"pretrained": "default"}, network, jax.random.key(0))
    trained = jax.tree.map(lambda x: x * rng.uniform(0.8, 1.2, np.shape(x)), imagenet)
    images = rng.integers(0, 256, (2, 32, 32, 3), np.uint8)
    found = {}
    for name, retrieval in (("own", None), ("imagenet", "imagenet")):
        config = {"model": model | {"retrieval": retrieval}, "data": {"image_size": [32, 32]}}
        saved_network.save_network(tmp_path / name, config, trained)
        found[name] = load_network(tmp_path / name)
    own, ours = (network.encode(images) for network in found.values())
    apply = jax.jit(network.apply, static_argnames="method")
    features = apply(imagenet, images, method="encode")
    expected = apply(imagenet, features, method="descriptor")
    np.testing.assert_allclose(found["imagenet"].descriptor(ours), expected, atol=1e-3)
    assert np.abs(found["own"].descriptor(own) - np.asarray(expected)).max() > 0.01
    K = np.eye(3, dtype=np.float32)[None]
    poses = [
        network.relate(network.kept(x), K.repeat(2, 0), jax.tree.map(lambda y: y[:1], x), K)
        for network, x in zip(found.values(), (own, ours), strict=True)
    ]
    np.testing.assert_allclose(*(x.db_from_query.wxyz_xyz for x in poses), atol=1e-6)
