import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreloc.models import layers
from jaxreloc.models.backbones import resnet


def numpy_conv(x, kernel, strides):
    """Zeros on each side as wide as half the kernel."""
    size = kernel.shape[0]
    pad = size // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return np.einsum("bhwcij,ijcd->bhwd", windows[:, ::strides, ::strides], kernel)


def numpy_conv_norm(x, params, statistics, strides):
    x = numpy_conv(x, params["kernel"], strides)
    x = (x - statistics["norm"]["mean"]) / np.sqrt(statistics["norm"]["var"] + 1e-5)
    return x * params["norm"]["scale"] + params["norm"]["bias"]


def test_block_equals_numpy(rng):
    x = rng.normal(size=(2, 7, 6, 3))
    block = resnet.BasicBlock(5, 2, layers.Compute())
    shapes = jax.eval_shape(lambda x: block.init(jax.random.key(0), x, False), x)
    variables = jax.tree.map(lambda s: rng.uniform(0.5, 1.5, s.shape), shapes)
    params, statistics = variables["params"], variables["batch_stats"]

    y = numpy_conv_norm(x, params["conv1"], statistics["conv1"], 2)
    y = numpy_conv_norm(np.maximum(y, 0), params["conv2"], statistics["conv2"], 1)
    shortcut = numpy_conv_norm(x, params["downsample"], statistics["downsample"], 2)
    expected = np.maximum(y + shortcut, 0)

    variables = jax.tree.map(jnp.float32, variables)
    actual = block.apply(variables, jnp.float32(x), False)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * expected.max())


# Hand count for ResNet-18: 9,408 + 128 of the first convolution; of stage 1 four 3x3 convolutions
# of 64 x 64 with norms; of the others 64 n x 128 n, three of 128 n x 128 n and one 1x1.
RESNET18_PARAMETERS = 9_408 + 128 + 4 * (36_864 + 128) + sum(
    9 * c * 2 * c + 3 * 9 * 4 * c * c + 2 * c * c + 5 * 2 * 2 * c for c in (64, 128, 256)
)


@pytest.mark.parametrize(
    ("blocks", "parameters"),
    [(resnet.RESNET18_BLOCKS, RESNET18_PARAMETERS), (resnet.RESNET34_BLOCKS, 21_284_672)],
)
def test_parameter_count_and_maps(blocks, parameters):
    taps = ("layer1", "layer3", "layer4")
    network = resnet.ResNet(blocks, layers.Compute(), taps)
    images = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.uint8)
    init = lambda images: network.init_with_output(jax.random.key(0), images, False)  # noqa: E731
    features, variables = jax.eval_shape(init, images)
    assert sum(np.prod(x.shape) for x in jax.tree.leaves(variables["params"])) == parameters
    assert features.pooled.shape == (2, 512)
    shapes = {name: x.shape for name, x in features.maps.items()}
    assert shapes == {"layer1": (2, 16, 24, 64), "layer3": (2, 4, 6, 256), "layer4": (2, 2, 3, 512)}


def test_resnet18_has_eleven_million_parameters():
    assert RESNET18_PARAMETERS == 11_176_512
