"""The weights that come with the package: complete, finite, small, and told when they are not."""

import jax
import numpy as np
import pytest

from jaxreloc.models.weights import network_weights, variables
from jaxreloc.usage import UsageError
from tests.models.blank_head import blank_headed_matcher


@pytest.fixture(scope="module")
def shipped():
    return network_weights.shipped_matcher((64, 96))


def test_only_the_head_differs_from_imagenet(shipped):
    plain = variables.flatten(blank_headed_matcher((64, 96)).variables)
    trained = variables.flatten(shipped.variables)
    for name, array in trained.items():
        assert np.isfinite(array).all(), name
        if "/head/" not in name:
            np.testing.assert_array_equal(array, plain[name], err_msg=name)
    assert shipped.config["data"]["image_size"] == (64, 96)


def test_the_file_is_small():
    assert network_weights.SHIPPED_HEAD.stat().st_size < 8e6


def test_a_head_written_is_read_in_half_precision(shipped, tmp_path, monkeypatch, rng):
    noisy = jax.tree.map(lambda x: x + rng.normal(size=x.shape).astype(x.dtype), shipped.variables)
    loaded = shipped.__class__(shipped.network, noisy, shipped.config | {"estimator": "network"})
    path = tmp_path / "head.safetensors"
    network_weights.write_shipped_head(loaded, path)
    monkeypatch.setattr(network_weights, "SHIPPED_HEAD", path)
    again = network_weights.shipped_matcher((64, 96))
    assert again.config["estimator"] == "network"
    written, read = (x["params"]["head"] for x in (noisy, again.variables))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(b, np.float16(a)), written, read)


def test_mistakes_are_named(shipped, tmp_path, monkeypatch):
    monkeypatch.setattr(network_weights, "SHIPPED_HEAD", tmp_path / "head.safetensors")
    with pytest.raises(UsageError, match="head.safetensors: cannot be read"):
        network_weights.shipped_matcher((64, 96))
    other = dict(shipped.config, model={"backbone": "resnet18", "head": "correlation"})
    loaded = shipped.__class__(shipped.network, shipped.variables, other)
    with pytest.raises(UsageError, match="not efficientnet_lite0"):
        network_weights.write_shipped_head(loaded, tmp_path / "head.safetensors")
