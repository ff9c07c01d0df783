import cv2
import jax
import jax.numpy as jnp
import matplotlib.cbook
import numpy as np
import pytest

from jaxreloc.images import read_image
from jaxreloc.models import layers
from jaxreloc.models.backbones.efficientnet_lite import EfficientNetLite0
from jaxreloc.models.weights import backbone_weights, torch_files

RED_FOX, MILITARY_UNIFORM = 277, 652


@pytest.fixture(scope="module")
def classify():
    """A function from a square RGB picture to the probabilities of ImageNet's classes."""
    network = EfficientNetLite0(layers.Compute())
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.uint8)
    shapes = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, False), images)
    variables = backbone_weights.load_backbone("efficientnet_lite0", "default", shapes)
    file = backbone_weights.SOURCES["efficientnet_lite0"].default_file()
    state = torch_files.read_state_dict(file)
    features = jax.jit(lambda image: network.apply(variables, image[None], False).pooled[0])

    def probabilities(image):
        image = cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA)
        logits = state["_fc.weight"] @ np.asarray(features(image)) + state["_fc.bias"]
        return np.exp(logits - np.logaddexp.reduce(logits))

    return probabilities


def test_photograph_of_an_officer_is_recognised(classify):
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    image = read_image(path)
    probabilities = classify(image[: image.shape[1]])
    assert probabilities.argmax() == MILITARY_UNIFORM
    assert probabilities.max() > 0.2


def test_photographs_of_a_fox_are_recognised(classify, shared_data):
    """Some views show the fox from behind: their probabilities are averaged."""
    total = 0.0
    for path in sorted((shared_data / "fox" / "images").iterdir())[::8]:
        image = read_image(path)
        top = (image.shape[0] - image.shape[1]) // 2
        total = total + classify(image[top : top + image.shape[1]])
    assert total.argmax() == RED_FOX


def test_maps_and_parameters():
    network = EfficientNetLite0(layers.Compute(), ("block4", "block10"))
    images = jax.ShapeDtypeStruct((2, 96, 128, 3), jnp.uint8)
    init = lambda images: network.init_with_output(jax.random.key(0), images, False)  # noqa: E731
    features, variables = jax.eval_shape(init, images)
    assert features.pooled.shape == (2, 1280)
    assert features.maps["block4"].shape == (2, 12, 16, 40)
    assert features.maps["block10"].shape == (2, 6, 8, 112)
    # The published model has 4,652,008, with the classifier's 1,281,000.
    count = sum(np.prod(x.shape) for x in jax.tree.leaves(variables["params"]))
    assert count == 4_652_008 - 1_281_000
