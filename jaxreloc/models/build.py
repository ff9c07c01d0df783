"""From a configuration to a network."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxreloc.compilation.kept_programs import kept_json
from jaxreloc.models import layers
from jaxreloc.models.backbones import efficientnet_lite, resnet
from jaxreloc.models.heads.concat import ConcatHead
from jaxreloc.models.heads.correlation_head import CorrelationHead
from jaxreloc.models.matching.coarse_to_fine import MatchSettings
from jaxreloc.models.matching.context.context_matching import ContextMatching
from jaxreloc.models.matching.description import TAPS, CellDescription
from jaxreloc.models.matching.learned_description import (
    LEARNED_SETTINGS,
    LEARNED_TAPS,
    LearnedDescription,
)
from jaxreloc.models.siamese import SiameseNetwork
from jaxreloc.models.weights.variables import flatten
from jaxreloc.usage import check_choice

BACKBONES = {
    "resnet18": lambda **options: resnet.ResNet(resnet.RESNET18_BLOCKS, **options),
    "resnet34": lambda **options: resnet.ResNet(resnet.RESNET34_BLOCKS, **options),
    "efficientnet_lite0": efficientnet_lite.EfficientNetLite0,
}
HEADS = ("concat", "correlation")
DESCRIPTIONS = ("imagenet", "learned")
RETRIEVALS = ("imagenet",)
# Of each backbone, the last map, whose cells the concat head sees if it is given a grid.
LAST_MAPS = {"resnet18": "layer4", "resnet34": "layer4", "efficientnet_lite0": "block15"}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

# Variables do not depend on the image size; a small image makes initialisation cheap.
INIT_IMAGE_SIZE = 64


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The fields of `config.model`.

    Attributes:
      backbone: a name in BACKBONES.
      head: a name in HEADS.
      dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
      remat: recompute activations in the backward pass: less memory, more time.
      pretrained: the backbone's first weights: None (random), "default" (ImageNet's), or the path
        of a `.pth` or `.safetensors` file.
      frozen_until: the last part of the backbone that training leaves as it is, such as "block10"
        of EfficientNet-lite0 or "layer2" of a ResNet; None trains all.
      grid: of the concat head, rows and columns of the cells that it sees of an image; None: pooled
        features, as in the paper.
      retrieval: of the concat head, whose pooled features rank images: None, its own, or
        "imagenet", those that the backbone has with ImageNet's weights.
      description: of the correlation head, a name in DESCRIPTIONS: the backbone's maps as they
        are, or descriptors trained on true matches.
      pretrained_description: the first weights of a learned one: None (random), "shipped" (those
        that come with the package), or the path of a network with the same backbone.
      start_from: the first weights of all the network: the workdir, folder or file of one with
        the same architecture; None takes those that the fields above name.
      context: of the correlation head, whether there is a second matching of coarse cells, in the
        light of both images.
    """

    backbone: str = "resnet34"
    head: str = "concat"
    dtype: str = "float32"
    remat: bool = False
    pretrained: str | None = None
    frozen_until: str | None = None
    grid: tuple[int, int] | None = None
    retrieval: str | None = None
    description: str = "imagenet"
    pretrained_description: str | None = None
    start_from: str | None = None
    context: bool = False

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> "NetworkConfig":
        """Checks the fields of a mapping or ConfigDict.

        Raises:
          UsageError: an unknown field, backbone, head or dtype; the message lists the known ones.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        for name in config.keys():
            check_choice("field of config.model", name, fields)
        given = dict(config.items())
        if given.get("grid") is not None:
            given["grid"] = tuple(given["grid"])
        parsed = cls(**given)
        check_choice("backbone", parsed.backbone, BACKBONES)
        check_choice("head", parsed.head, HEADS)
        check_choice("dtype", parsed.dtype, DTYPES)
        check_choice("description", parsed.description, DESCRIPTIONS)
        if parsed.retrieval is not None:
            check_choice("retrieval", parsed.retrieval, RETRIEVALS)
        if parsed.head == "correlation" and parsed.description == "learned":
            check_choice("backbone of a learned description", parsed.backbone, LEARNED_TAPS)
        return parsed


def build_network(config: Mapping[str, Any], axis_name: str | None = None) -> SiameseNetwork:
    """The network that `config` (see NetworkConfig) describes.

    Args:
      axis_name: the pmap axis over which training averages batch statistics; None on one device.
    """
    parsed = NetworkConfig.parse(config)
    compute = layers.Compute(DTYPES[parsed.dtype], axis_name, parsed.remat)
    if parsed.head == "correlation":
        described, taps, settings = _description(parsed)
        context = ContextMatching() if parsed.context else None
        head = CorrelationHead(
            compute=compute, description=described, settings=settings, context=context
        )
    else:
        taps = () if parsed.grid is None else (LAST_MAPS[parsed.backbone],)
        head = ConcatHead(compute=compute, grid=parsed.grid)
    frozen = {} if parsed.frozen_until is None else {"frozen_until": parsed.frozen_until}
    backbone = BACKBONES[parsed.backbone](compute=compute, taps=taps, **frozen)
    return SiameseNetwork(backbone=backbone, head=head)


def _description(config: NetworkConfig):
    """The module that describes cells, the names of the maps that it sees, and the matching."""
    if config.description == "learned":
        taps = LEARNED_TAPS[config.backbone]
        return LearnedDescription(taps), taps, LEARNED_SETTINGS
    taps = TAPS[config.backbone]
    return CellDescription(taps), taps, MatchSettings()


@functools.partial(jax.jit, static_argnums=0)
def init_variables(network: SiameseNetwork, key: jax.Array) -> dict[str, Any]:
    """Random `{"params": ..., "batch_stats": ...}` of a network."""
    images = jnp.zeros((1, INIT_IMAGE_SIZE, INIT_IMAGE_SIZE, 3))
    intrinsics = jnp.eye(3).reshape(1, 3, 3)
    return network.init(key, images, images, intrinsics, intrinsics, train=False)


def init_heads(network: SiameseNetwork, key: jax.Array) -> dict[str, Any]:
    """The part of `init_variables` that is not the backbone's, which takes the most to compile."""

    def make(key: jax.Array) -> dict[str, Any]:
        every = init_variables(network, key)
        return {
            collection: {name: x for name, x in tree.items() if name != "backbone"}
            for collection, tree in every.items()
        }

    return jax.jit(make)(key)


def variable_shapes(network: SiameseNetwork) -> dict[str, jax.ShapeDtypeStruct]:
    """Of `init_variables`, by name; see `variables.flatten`."""

    def make() -> dict[str, tuple[tuple[int, ...], str]]:
        shapes = jax.eval_shape(lambda: init_variables(network, jax.random.key(0)))
        return {name: (x.shape, str(x.dtype)) for name, x in flatten(shapes).items()}

    kept = kept_json("variables", network, make)
    return {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in kept.items()}
