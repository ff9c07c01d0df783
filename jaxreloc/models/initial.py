"""What training starts from: random variables, parts of which are taken from files."""

from collections.abc import Mapping
from typing import Any

import jax

from jaxreloc.models import pretrained, saved_network, shipped_weights, variables
from jaxreloc.models.build import NetworkConfig, init_variables
from jaxreloc.models.matching.description import imagenet_statistics
from jaxreloc.models.siamese import SiameseNetwork

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


def _with_description(first: dict[str, Any], source: str) -> dict[str, Any]:
    if source == "shipped":
        source, named = str(shipped_weights.PATH), shipped_weights.read()[0]
    else:
        named = variables.flatten(saved_network.load_network(source).variables)
    own = variables.flatten(first)
    expected, found = (
        {name: x for name, x in of.items() if name.partition("/")[2].startswith(DESCRIPTION)}
        for of in (own, named)
    )
    remedy = "give config.model.pretrained_description a network with this description"
    variables.check_match(expected, found, source, remedy)
    return variables.unflatten(own | found)
