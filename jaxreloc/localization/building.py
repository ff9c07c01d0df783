"""Building and changing maps: `run_localize.py map`, `map add` and `map remove`."""

import pathlib
import sys
import time
from collections.abc import Iterable

import tqdm

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.localization import map_files
from jaxreloc.localization.encoding import EncodedImages, encode_frames
from jaxreloc.localization.map_manifest import read_manifest
from jaxreloc.localization.match_network import MatchNetwork
from jaxreloc.localization.network import InferenceNetwork, load_inference_network
from jaxreloc.localization.pretrained_network import pretrained_network
from jaxreloc.localization.scene_map import SceneMap


def build_map(
    images: str | pathlib.Path,
    out: str | pathlib.Path,
    network_path: str | pathlib.Path | None = None,
    *,
    skip_bad_frames: bool = False,
) -> str:
    """Encodes posed images into a new map; returns a line that says what it holds.

    Args:
      images: the folder, in any of `posed_images.FORMATS`.
      network_path: a workdir or the folder of a saved network; None takes the network that needs
        no training (`pretrained_network`).
      skip_bad_frames: leaves bad frames out with one warning, instead of raising at the first.

    Raises:
      UsageError: a file is not what it should be, or the map exists.
    """
    out = pathlib.Path(out).expanduser()
    map_files.check_new(out)
    frames = read_posed_images(images, skip_bad_frames=skip_bad_frames)
    if network_path is None:
        network = pretrained_network(frames.image_sizes)
    else:
        network = load_inference_network(network_path)
    encoded, rate = _encode(frames, network)
    SceneMap.create(out, network, encoded)
    return f"{describe_map(out)}; {rate:.1f} images/s"


def add_to_map(
    map_path: str | pathlib.Path, images: str | pathlib.Path, *, skip_bad_frames: bool = False
) -> str:
    """Encodes more posed images with the map's own network and adds them."""
    folder = pathlib.Path(map_path).expanduser()
    network = load_inference_network(map_files.network_file(folder, read_manifest(folder)))
    frames = read_posed_images(images, skip_bad_frames=skip_bad_frames)
    map_files.check_new_names(folder, frames.names)
    encoded, rate = _encode(frames, network)
    map_files.add(folder, encoded)
    return f"{describe_map(folder)}; added {len(frames)}, {rate:.1f} images/s"


def remove_from_map(map_path: str | pathlib.Path, names: Iterable[str]) -> str:
    """Takes images out of the map by name."""
    folder = pathlib.Path(map_path).expanduser()
    names = set(names)
    map_files.remove(folder, names)
    return f"{describe_map(folder)}; removed {len(names)}"


def describe_map(folder: pathlib.Path) -> str:
    """One line: the number of images, and what each takes on disk."""
    manifest = read_manifest(folder)
    stored = sum(segment.num_images for segment in manifest.segments)
    removed = sum(len(segment.removed) for segment in manifest.segments)
    segments = (folder / map_files.SEGMENTS).rglob("*")
    size = sum(path.stat().st_size for path in segments if path.is_file())
    network_size = map_files.network_file(folder, manifest).stat().st_size
    return (
        f"{folder}: {stored - removed} images of {size / stored / 1e3:.0f} kB each, "
        f"and {network_size / 1e6:.1f} MB of network"
    )


def _encode(
    frames: PosedFrames, network: InferenceNetwork | MatchNetwork
) -> tuple[EncodedImages, float]:
    """The encoded images, and how many were encoded in a second."""
    start = time.perf_counter()
    encoded = encode_frames(frames, network, progress=_progress)
    return encoded, len(frames) / (time.perf_counter() - start)


def _progress(indices: Iterable[int]) -> Iterable[int]:
    return tqdm.tqdm(indices, "encoding", unit="image", disable=not sys.stderr.isatty())
