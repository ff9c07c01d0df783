"""The trained network that comes with the package: `docs/model_card.md` says what it is made of.

Its file has the head alone. The backbone's weights are those of its pip package, as in training.
"""

import json
import pathlib

import jax
import numpy as np
import safetensors.numpy

from jaxreloc import files
from jaxreloc.models import build
from jaxreloc.models.weights import pretrained, shipped_weights, variables
from jaxreloc.models.weights.imagenet_matcher import MODEL, check_canvas
from jaxreloc.models.weights.saved_network import LoadedNetwork
from jaxreloc.usage import UsageError

_HEAD = "head/"


def shipped_matcher(image_size: tuple[int, int]) -> LoadedNetwork:
    """EfficientNet-lite0 with ImageNet's weights under the trained correlation head.

    Args:
      image_size: height and width of the canvas that whole images are fitted into.

    Raises:
      ValueError: a side is no multiple of 32.
      UsageError: the weights are not there, or of another version of the network.
    """
    check_canvas(image_size)
    head, config = shipped_weights.read()
    model = MODEL | {"description": config["description"]}
    network = build.build_network(model)
    shapes = jax.eval_shape(lambda: build.init_variables(network, jax.random.key(0)))
    expected = {name: x for name, x in variables.flatten(shapes).items() if _is_of_head(name)}
    path = str(shipped_weights.PATH)
    variables.check_match(expected, head, path, "check the repository out again")
    backbone = {collection: tree["backbone"] for collection, tree in shapes.items()}
    loaded = pretrained.load_backbone(model["backbone"], model["pretrained"], backbone)
    named = {
        collection: {"backbone": loaded[collection]} | variables.unflatten(head)[collection]
        for collection in shapes
    }
    config = {"model": model, "data": {"image_size": tuple(image_size)}} | config
    return LoadedNetwork(network, named, config)


def write_head(loaded: LoadedNetwork, path: pathlib.Path = shipped_weights.PATH) -> None:
    """Writes the head of a trained network for `shipped_matcher`, in half precision.

    Raises:
      UsageError: its backbone is another, or the file cannot be written.
    """
    model = loaded.config["model"]
    if model["backbone"] != MODEL["backbone"]:
        raise UsageError(f"the network's backbone is not {MODEL['backbone']}; train that one")
    head = {
        name: np.asarray(x, np.float16)
        for name, x in variables.flatten(loaded.variables).items()
        if _is_of_head(name)
    }
    config = {
        "description": model.get("description", "imagenet"),
        "estimator": loaded.config.get("estimator", "matches"),
    }
    with files.replacing(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save(head, {"config": json.dumps(config)}))


def _is_of_head(name: str) -> bool:
    return name.partition("/")[2].startswith(_HEAD)
