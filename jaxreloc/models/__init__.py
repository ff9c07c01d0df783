"""Backbones, pair heads and the siamese network that joins them."""

from jaxreloc.models.build import build_network, init_variables
from jaxreloc.models.heads.relative_pose import RelativePose
from jaxreloc.models.initial import first_variables
from jaxreloc.models.siamese import SiameseNetwork

__all__ = [
    "RelativePose",
    "SiameseNetwork",
    "build_network",
    "first_variables",
    "init_variables",
]
