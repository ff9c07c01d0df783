"""Networks for inference: of a file, or the one that comes with the package."""

import hashlib
import json
import os
import pathlib
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.localization.networks.pose_network import PoseNetwork
from jaxreloc.localization.networks.regression_network import RegressionNetwork
from jaxreloc.models.weights import saved_network
from jaxreloc.models.weights.network_weights import SIZE_MULTIPLE, shipped_matcher
from jaxreloc.models.weights.saved_network import LoadedNetwork
from jaxreloc.usage import UsageError, check_choice

LONG_SIDE = 512
HEADS = {"concat": RegressionNetwork, "correlation": MatchNetwork}  # by the name of the head
INPUT_SIZES = {"concat": {"short_side": (), "crop": ()}, "correlation": {"image_size": (2,)}}
SIZES = 8, 8192  # pixels of these

_in_use: weakref.WeakValueDictionary[str, PoseNetwork] = weakref.WeakValueDictionary()


def load_network(
    path: str | os.PathLike, model: Mapping[str, Any] | None = None
) -> PoseNetwork:
    """Reads what training saved, by the one of READERS for its kind.

    See `saved_network.read_network` for `path` and `model`.

    Raises:
      UsageError: as there, or nothing reads its kind.
    """
    file = saved_network.find(pathlib.Path(path))
    kind = saved_network.kind_of(file)
    check_choice(f"kind of network of {file}", kind, READERS)
    return READERS[kind](file, model)


def _read_siamese(path: pathlib.Path, model: Mapping[str, Any] | None) -> PoseNetwork:
    """Raises UsageError where its config does not say which pictures it takes."""
    loaded = saved_network.read_network(path, model)
    head = loaded.config["model"].get("head", "concat")
    data = loaded.config.get("data")
    is_whole = isinstance(data, Mapping) and data.get("image_size") is not None
    for field, shape in INPUT_SIZES["correlation" if is_whole else head].items():
        _check_sizes(loaded.config, field, shape, path)
    return _network(loaded)


# What reads a network, by the `kind` in its file's header. `PoseNetwork.save` writes the file.
READERS: dict[str, Callable[[pathlib.Path, Mapping[str, Any] | None], PoseNetwork]] = {
    saved_network.SIAMESE: _read_siamese
}


def _network(loaded: LoadedNetwork, *options: str) -> PoseNetwork:
    """Equal networks are one while any of them is in use, with all that it has compiled."""
    digest = hashlib.sha256(json.dumps([loaded.config, options], sort_keys=True).encode())
    for path, leaf in jax.tree.leaves_with_path(loaded.variables):
        digest.update(repr((path, leaf.shape, leaf.dtype)).encode())
        digest.update(np.ascontiguousarray(leaf))
    key = digest.hexdigest()
    network = _in_use.get(key)
    if network is None:
        head = loaded.config["model"].get("head", "concat")
        network = _in_use[key] = HEADS[head](loaded, *options)
    return network


def _check_sizes(
    config: Mapping[str, Any], field: str, shape: tuple[int, ...], path: str | os.PathLike
) -> None:
    try:
        sizes = np.array(config["data"][field])
        right = sizes.dtype.kind == "i" and sizes.shape == shape
        right = right and sizes.min() >= SIZES[0] and sizes.max() <= SIZES[1]
    except (KeyError, TypeError, ValueError):
        right = False
    if not right:
        raise UsageError(
            f"{path}: the network's config has no data.{field} from {SIZES[0]} to {SIZES[1]} "
            "pixels; train or copy it again"
        )


def pretrained_network(
    image_sizes: Int[np.ndarray, "n 2"],
    *,
    long_side: int = LONG_SIDE,
    estimator: str | None = None,
) -> MatchNetwork:
    """A matcher for images of these widths and heights.

    Args:
      long_side: of the canvas (pixels): 512, or 256 for the fast mode.
      estimator: one of `match_relations.ESTIMATORS`; None takes the network's own.
    """
    options = () if estimator is None else (estimator,)
    return _network(shipped_matcher(canvas(image_sizes, long_side)), *options)


def canvas(
    image_sizes: Int[np.ndarray, "n 2"], long_side: int = LONG_SIDE
) -> tuple[int, int]:
    """Height and width, `long_side` at most, of the images' median aspect."""
    width, height = np.median(image_sizes, axis=0)
    scale = long_side / max(width, height)
    sides = (max(1, round(side * scale / SIZE_MULTIPLE)) for side in (height, width))
    return tuple(SIZE_MULTIPLE * side for side in sides)
