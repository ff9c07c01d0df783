"""Backbones, pair heads and the siamese network that joins them."""

from jaxreloc.models.build import build_network, init_variables
from jaxreloc.models.heads.pose_prediction import RelativePose
from jaxreloc.models.siamese import SiameseNetwork
from jaxreloc.models.weights.network_weights import first_variables

__all__ = [
    "RelativePose",
    "SiameseNetwork",
    "build_network",
    "first_variables",
    "init_variables",
]
