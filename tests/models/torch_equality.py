"""The networks against PyTorch's with the same random weights; `make test-torch` runs it.

Pytest does not collect this file by itself, since PyTorch is no requirement of the project.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import torch

from benchmarks.networks import torch_networks
from jaxreloc.models import build, inference, init_variables
from jaxreloc.models.backbones import efficientnet_lite, resnet
from jaxreloc.models.weights import backbone_weights, torch_files
from jaxreloc.models.weights.saved_network import LoadedNetwork

PIXELS = {
    "resnet18": (resnet.IMAGENET_MEAN, resnet.IMAGENET_STD),
    "resnet34": (resnet.IMAGENET_MEAN, resnet.IMAGENET_STD),
    "efficientnet_lite0": (efficientnet_lite.PIXEL_MEAN, efficientnet_lite.PIXEL_STD),
}


def random_backbone(name):
    """A PyTorch backbone with random weights and statistics, in evaluation mode."""
    backbone = torch_networks.build_backbone(name).eval()
    with torch.no_grad():
        for key, tensor in backbone.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif key.endswith(("running_mean", "bias")):
                tensor.normal_(0, 0.3)
            elif tensor.ndim == 1:
                tensor.uniform_(0.5, 1.5)
    return backbone


def torch_images(images, name):
    mean, std = (torch.tensor(x) for x in PIXELS[name])
    return ((torch.tensor(images).float() - mean) / std).permute(0, 3, 1, 2)


@pytest.mark.parametrize("suffix", [".pth", ".legacy.pth", ".safetensors"])
@pytest.mark.parametrize("name", PIXELS)
def test_features_equal_torch(rng, tmp_path, name, suffix):
    backbone = random_backbone(name)
    path = tmp_path / f"weights{suffix}"
    state = backbone.state_dict()
    if suffix == ".safetensors":
        safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=suffix == ".pth")

    network = build.build_network({"backbone": name})
    shapes = jax.eval_shape(lambda: init_variables(network, jax.random.key(0)))
    backbone_shapes = {collection: tree["backbone"] for collection, tree in shapes.items()}
    loaded = backbone_weights.load_backbone(name, str(path), backbone_shapes)
    head = {c: jax.tree.map(lambda s: jnp.zeros(s.shape), shapes[c]["head"]) for c in shapes}
    variables = {c: {"backbone": loaded[c], "head": head[c]} for c in shapes}

    images = rng.integers(0, 256, (2, 97, 130, 3), np.uint8)
    with torch.no_grad():
        expected = backbone(torch_images(images, name)).numpy()
    plain = jax.jit(lambda v, x: network.apply(v, x, method="encode"))(variables, images)
    folded = inference.inference_functions(LoadedNetwork(network, variables, {})).encode(images)
    for features in (plain, folded):
        np.testing.assert_allclose(features.pooled, expected, rtol=0, atol=1e-4 * expected.max())


def test_real_weights_are_read_as_torch_reads_them():
    path = backbone_weights.SOURCES["efficientnet_lite0"].default_file()
    expected = torch.load(path, weights_only=True)
    actual = torch_files.read_state_dict(path)
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(actual[name], tensor.numpy())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("zipped", [True, False])
def test_types_and_views(tmp_path, dtype, zipped):
    base = torch.arange(12).reshape(3, 4).to(dtype)
    state = {"view": base.T[1:], "parameter": torch.ones(()).to(dtype), "empty": base[:0]}
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    actual = torch_files.read_state_dict(tmp_path / "a.pth")
    for name, tensor in state.items():
        np.testing.assert_array_equal(np.float32(actual[name]), tensor.float().numpy())
