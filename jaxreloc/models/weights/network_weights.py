"""Which weights: those that training starts from, ImageNet's alone, and those of the package.

The shipped file has the head alone (`docs/model_card.md` says what it is made of). The backbone's
weights are always those of its pip package, unless a config names a file.
"""

import functools
import json
import pathlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Array

from jaxreloc import files
from jaxreloc.models.build import (
    NetworkConfig,
    build_network,
    init_heads,
    init_variables,
    variable_shapes,
)
from jaxreloc.models.heads.concat import seen_by_head
from jaxreloc.models.inference import inference_functions
from jaxreloc.models.matching.description import imagenet_statistics
from jaxreloc.models.siamese import SiameseNetwork
from jaxreloc.models.weights import saved_network, variables
from jaxreloc.models.weights.backbone_weights import DEFAULT, load_backbone
from jaxreloc.models.weights.saved_network import LoadedNetwork
from jaxreloc.usage import UsageError

MATCHER = {"backbone": "efficientnet_lite0", "head": "correlation", "pretrained": "default"}
SIZE_MULTIPLE = 32  # pixels; the backbone halves an image five times
SHIPPED_HEAD = pathlib.Path(__file__).parent / "correlation_head.safetensors"

_HEAD = "head/"
_DESCRIPTION = "head/description/"
_REGRESSION = "head/regression/"


def first_variables(
    config: Mapping[str, Any], network: SiameseNetwork, key: jax.Array
) -> dict[str, Any]:
    """Random variables; the backbone's and the description's from where `config.model` says.

    Where it names a network to start from, all of them are that one's.

    Raises:
      UsageError: the weights cannot be had or do not fit the network.
    """
    parsed = NetworkConfig.parse(config)
    if parsed.start_from is not None:
        return saved_network.read_network(parsed.start_from, config).variables
    if parsed.pretrained is None:
        first = init_variables(network, key)
    else:
        shapes = variables.unflatten(variable_shapes(network))
        backbone = {collection: tree["backbone"] for collection, tree in shapes.items()}
        loaded = load_backbone(parsed.backbone, parsed.pretrained, backbone)
        first = {
            collection: {**tree, "backbone": loaded[collection]}
            for collection, tree in init_heads(network, key).items()
        }
        if parsed.head == "correlation":
            statistics = imagenet_statistics(network.head.description, loaded["params"])
            first["batch_stats"]["head"]["description"].update(statistics)
    if parsed.head == "correlation" and parsed.pretrained_description is not None:
        first = _with_description(first, parsed.pretrained_description)
        if parsed.context and parsed.pretrained_description == "shipped":
            first = _with_regression(first)
    return first


@functools.cache
def imagenet_features(
    backbone: str, grid: tuple[int, int] | None = None
) -> Callable[[np.ndarray], Array]:
    """What a concat head sees of uint8 images [B, H, W, 3], of ImageNet's weights; compiled.

    Args:
      grid: of the head.

    Raises:
      UsageError: there is no such backbone, or its weights cannot be had.
    """
    config = {"model": {"backbone": backbone, "pretrained": DEFAULT, "grid": grid}}
    network = build_network(config["model"])
    first = first_variables(config["model"], network, jax.random.key(0))
    encode = inference_functions(LoadedNetwork(network, first, config)).encode
    return lambda images: seen_by_head(encode(images), grid)


def imagenet_matcher(image_size: tuple[int, int]) -> LoadedNetwork:
    """EfficientNet-lite0 with ImageNet's weights under a correlation head; nothing is trained.

    Args:
      image_size: height and width of the canvas that whole images are fitted into.

    Raises:
      ValueError: a side is no multiple of 32.
    """
    _check_canvas(image_size)
    network = build_network(MATCHER)
    first = first_variables(MATCHER, network, jax.random.key(0))
    config = {"model": MATCHER, "data": {"image_size": tuple(image_size)}}
    return LoadedNetwork(network, first, config)


def shipped_matcher(image_size: tuple[int, int]) -> LoadedNetwork:
    """EfficientNet-lite0 with ImageNet's weights under the head that comes with the package.

    Args:
      image_size: height and width of the canvas that whole images are fitted into.

    Raises:
      ValueError: a side is no multiple of 32.
      UsageError: the weights are not there, or of another version of the network.
    """
    _check_canvas(image_size)
    head, config = _read_shipped_head()
    model = MATCHER | {"description": config["description"]}
    model["context"] = config.pop("context", False)
    network = build_network(model)
    named_shapes = variable_shapes(network)
    shapes = variables.unflatten(named_shapes)
    expected = _within(_HEAD, named_shapes)
    variables.check_match(expected, head, str(SHIPPED_HEAD), "check the repository out again")
    backbone = {collection: tree["backbone"] for collection, tree in shapes.items()}
    loaded = load_backbone(model["backbone"], model["pretrained"], backbone)
    named = {
        collection: {"backbone": loaded[collection]} | variables.unflatten(head)[collection]
        for collection in shapes
    }
    config = {"model": model, "data": {"image_size": tuple(image_size)}} | config
    return LoadedNetwork(network, named, config)


def write_shipped_head(loaded: LoadedNetwork, path: pathlib.Path = SHIPPED_HEAD) -> None:
    """Writes the head of a trained network for `shipped_matcher`, in half precision.

    Raises:
      UsageError: its backbone is another, or the file cannot be written.
    """
    model = loaded.config["model"]
    if model["backbone"] != MATCHER["backbone"]:
        raise UsageError(f"the network's backbone is not {MATCHER['backbone']}; train that one")
    head = {
        name: np.asarray(x, np.float16)
        for name, x in _within(_HEAD, variables.flatten(loaded.variables)).items()
    }
    config = {
        "description": model.get("description", "imagenet"),
        "estimator": loaded.config.get("estimator", "matches"),
        "context": model.get("context", False),
    }
    with files.replacing(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save(head, {"config": json.dumps(config)}))


def description_name(config: Mapping[str, Any]) -> str:
    """What tells the descriptors of `config.model` from others: their kind, a CRC-32 if learned.

    Raises:
      UsageError: a learned description has no pretrained weights, or they cannot be read.
    """
    parsed = NetworkConfig.parse(config)
    if parsed.description == "imagenet":
        return parsed.description
    if parsed.pretrained_description is None:
        raise UsageError(
            "config.model.pretrained_description is not set, and matches of untrained descriptors "
            'are worth nothing; give "shipped" or the workdir of a run of configs/descriptor.py'
        )
    crc = 0
    for name, array in sorted(_read_description(parsed.pretrained_description).items()):
        crc = zlib.crc32(np.ascontiguousarray(array, np.float32), zlib.crc32(name.encode(), crc))
    return f"{parsed.description} {crc:08x}"


def _check_canvas(image_size: tuple[int, int]) -> None:
    if any(side <= 0 or side % SIZE_MULTIPLE for side in image_size):
        raise ValueError(f"canvas {image_size}: sides are to be multiples of {SIZE_MULTIPLE}")


def _read_shipped_head() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The variables by name, float32, and the config that is saved with them."""
    try:
        with safetensors.safe_open(SHIPPED_HEAD, framework="numpy") as file:
            head = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}
            return head, json.loads((file.metadata() or {})["config"])
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        message = f"{SHIPPED_HEAD}: cannot be read ({error}); check the repository out again"
        raise UsageError(message) from error


def _with_description(first: dict[str, Any], source: str) -> dict[str, Any]:
    found = _read_description(source)
    own = variables.flatten(first)
    remedy = "give config.model.pretrained_description a network with this description"
    variables.check_match(_within(_DESCRIPTION, own), found, source, remedy)
    return variables.unflatten(own | found)


def _with_regression(first: dict[str, Any]) -> dict[str, Any]:
    """The rest of the shipped head, which is not trained where the context is."""
    found = _within(_REGRESSION, _read_shipped_head()[0])
    return variables.unflatten(variables.flatten(first) | found)


def _read_description(source: str) -> dict[str, np.ndarray]:
    if source == "shipped":
        named = _read_shipped_head()[0]
    else:
        named = variables.flatten(saved_network.read_network(source).variables)
    return _within(_DESCRIPTION, named)


def _within(part: str, named: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a part of the network, in every collection."""
    return {name: x for name, x in named.items() if name.partition("/")[2].startswith(part)}
