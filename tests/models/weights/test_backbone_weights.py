import hashlib
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxreloc.models import layers
from jaxreloc.models.backbones import resnet
from jaxreloc.models.weights import backbone_weights
from jaxreloc.usage import UsageError


@pytest.fixture(scope="module")
def shapes():
    network = resnet.ResNet(resnet.RESNET18_BLOCKS, layers.Compute())
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8)
    return jax.eval_shape(lambda x: network.init(jax.random.key(0), x, False), images)


@pytest.fixture
def resnet18_tensors(rng):
    """A state dict as torchvision names it, written out from the paper's table."""
    tensors = {}

    def conv_norm(conv, norm, features, channels, size):
        tensors[f"{conv}.weight"] = rng.normal(size=(features, channels, size, size))
        for kind in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{norm}.{kind}"] = rng.normal(size=features)
        tensors[f"{norm}.num_batches_tracked"] = np.array(7)

    conv_norm("conv1", "bn1", 64, 3, 7)
    channels = 64
    for stage, features in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            prefix = f"layer{stage}.{block}"
            conv_norm(f"{prefix}.conv1", f"{prefix}.bn1", features, channels, 3)
            conv_norm(f"{prefix}.conv2", f"{prefix}.bn2", features, features, 3)
            if channels != features:
                shortcut = f"{prefix}.downsample"
                conv_norm(f"{shortcut}.0", f"{shortcut}.1", features, channels, 1)
            channels = features
    tensors["fc.weight"], tensors["fc.bias"] = rng.normal(size=(1000, 512)), rng.normal(size=1000)
    return {name: np.float32(x) if x.ndim else x for name, x in tensors.items()}


def load(tensors, path, shapes):
    safetensors.numpy.save_file(tensors, path)
    return backbone_weights.load_backbone("resnet18", str(path), shapes)


def test_every_tensor_finds_its_place(resnet18_tensors, tmp_path, shapes):
    loaded = load(resnet18_tensors, tmp_path / "a.safetensors", shapes)
    assert jax.tree.map(np.shape, loaded) == jax.tree.map(np.shape, shapes)
    params, statistics = loaded["params"], loaded["batch_stats"]
    source, shortcut = resnet18_tensors, statistics["layer2_0"]["downsample"]
    for mine, name in [
        (params["conv1"]["norm"]["scale"], "bn1.weight"),
        (params["layer1_0"]["conv2"]["norm"]["bias"], "layer1.0.bn2.bias"),
        (shortcut["norm"]["mean"], "layer2.0.downsample.1.running_mean"),
        (statistics["layer4_1"]["conv1"]["norm"]["var"], "layer4.1.bn1.running_var"),
    ]:
        np.testing.assert_array_equal(mine, source[name])
    kernel = params["layer3_0"]["conv1"]["kernel"]
    assert kernel[2, 1, 5, 9] == source["layer3.0.conv1.weight"][9, 5, 2, 1]


def test_every_difference_is_listed(resnet18_tensors, tmp_path, shapes):
    tensors = resnet18_tensors
    del tensors["bn1.bias"]
    tensors["layer1.2.conv1.weight"] = np.zeros((64, 64, 3, 3), np.float32)
    tensors["conv1.weight"] = np.zeros((64, 4, 7, 7), np.float32)
    with pytest.raises(UsageError) as error:
        load(tensors, tmp_path / "a.safetensors", shapes)
    message = str(error.value)
    assert "a.safetensors: 3 parameters do not match" in message
    assert "bn1.bias is missing" in message
    assert "layer1.2.conv1.weight is not in the network" in message
    assert "conv1.weight is [64, 4, 7, 7], the network's is [64, 3, 7, 7]" in message


def test_unreadable_files(tmp_path, shapes):
    path = tmp_path / "a.safetensors"
    for content in (None, b"", b"not safetensors at all"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UsageError, match="a.safetensors: cannot be read"):
            backbone_weights.load_backbone("resnet18", str(path), shapes)
    with pytest.raises(UsageError, match="unknown backbone.*known: efficientnet_lite0, resnet18"):
        backbone_weights.load_backbone("vgg16", "default", shapes)


def test_a_pipe_is_not_waited_for(tmp_path, shapes):
    for name in ("weights.safetensors", "weights.pth"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(UsageError, match=f"{name}: is not a file but"):
            backbone_weights.load_backbone("resnet18", str(tmp_path / name), shapes)


def test_download_is_checked_kept_and_atomic(tmp_path):
    content = b"weights"
    prefix = hashlib.sha256(content).hexdigest()[:8]
    served = tmp_path / f"net-{prefix}.pth"
    served.write_bytes(content)
    folder = tmp_path / "cache"
    path = backbone_weights.download(served.as_uri(), folder)
    assert path == folder / served.name and path.read_bytes() == content
    served.unlink()
    assert backbone_weights.download(served.as_uri(), folder) == path

    tampered = tmp_path / "net-0123abcd.pth"
    tampered.write_bytes(content)
    with pytest.raises(UsageError, match="its SHA-256 is .*, not 0123abcd"):
        backbone_weights.download(tampered.as_uri(), folder)
    assert [file.name for file in folder.iterdir()] == [path.name]


def test_without_a_network_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXRELOC_CACHE", str(tmp_path))
    url = pathlib.Path(tmp_path / "absent" / "net-01234567.pth").as_uri()
    with pytest.raises(UsageError, match="cannot be downloaded.*config.model.pretrained"):
        backbone_weights.download(url, backbone_weights.cache_folder())
    assert not list(tmp_path.iterdir())
