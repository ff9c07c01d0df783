"""What training starts from: random variables, parts of which are taken from files."""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxreloc.models.build import NetworkConfig, init_variables
from jaxreloc.models.matching.description import imagenet_statistics
from jaxreloc.models.siamese import SiameseNetwork
from jaxreloc.models.weights import pretrained, saved_network, shipped_weights, variables
from jaxreloc.usage import UsageError

DESCRIPTION = "head/description/"


def first_variables(
    config: Mapping[str, Any], network: SiameseNetwork, key: jax.Array
) -> dict[str, Any]:
    """Random variables; the backbone's and the description's from where `config.model` says.

    Raises:
      UsageError: the pretrained weights cannot be had or do not fit the network.
    """
    parsed = NetworkConfig.parse(config)
    first = init_variables(network, key)
    if parsed.pretrained is not None:
        backbone = {collection: tree["backbone"] for collection, tree in first.items()}
        loaded = pretrained.load_backbone(parsed.backbone, parsed.pretrained, backbone)
        first = {
            collection: {**tree, "backbone": loaded[collection]}
            for collection, tree in first.items()
        }
        if parsed.head == "correlation":
            statistics = imagenet_statistics(network.head.description, loaded["params"])
            first["batch_stats"]["head"]["description"].update(statistics)
    if parsed.head == "correlation" and parsed.pretrained_description is not None:
        first = _with_description(first, parsed.pretrained_description)
    return first


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


def _with_description(first: dict[str, Any], source: str) -> dict[str, Any]:
    found = _read_description(source)
    own = variables.flatten(first)
    expected = {name: x for name, x in own.items() if _is_of_description(name)}
    remedy = "give config.model.pretrained_description a network with this description"
    variables.check_match(expected, found, source, remedy)
    return variables.unflatten(own | found)


def _read_description(source: str) -> dict[str, np.ndarray]:
    if source == "shipped":
        named = shipped_weights.read()[0]
    else:
        named = variables.flatten(saved_network.load_network(source).variables)
    return {name: x for name, x in named.items() if _is_of_description(name)}


def _is_of_description(name: str) -> bool:
    return name.partition("/")[2].startswith(DESCRIPTION)
