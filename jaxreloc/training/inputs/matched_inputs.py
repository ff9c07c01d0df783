"""The matched pairs that a run trains on and is validated on, as `config.data` describes them.

They are made on first use, scene by scene, and kept in `data.matches_dir`; what is there already is
used as it is, without its dataset.
"""

import dataclasses
import functools
import json
import os
import pathlib
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from jaxreloc import files
from jaxreloc.data import datasets
from jaxreloc.formats.common.text import parse_json, read_text
from jaxreloc.models import build_network, first_variables
from jaxreloc.models.weights import network_weights
from jaxreloc.models.weights.saved_network import LoadedNetwork
from jaxreloc.training.inputs import matched_pairs
from jaxreloc.training.inputs.match_loader import MATCH_FIELDS, MatchLoader
from jaxreloc.training.inputs.match_making import MatchMaking, write_scenes
from jaxreloc.training.inputs.matched_pairs import MatchedPairs
from jaxreloc.usage import UsageError

RECORD = "made.json"
SCENE_NAME = re.compile(r"(?!\.)[^/\0]+")


@dataclasses.dataclass(frozen=True)
class MatchedSet:
    """Matched pairs with the loader of their batches."""

    scenes: list[str]
    pairs: MatchedPairs
    loader: MatchLoader

    def fingerprint(self) -> int:
        """CRC-32 of the matches and the poses: equal data in equal order."""
        crc = 0
        for name in (*MATCH_FIELDS, "db_from_query", "overlap"):
            crc = zlib.crc32(np.ascontiguousarray(getattr(self.pairs, name)), crc)
        return crc

    def frame_names(self, pair_index: int) -> tuple[str, str]:
        """SCENE/NUMBER of the two images of a pair, the database's first."""
        name = str(self.pairs.names[pair_index])
        db_scene, _, query_scene = name.partition("/")
        db, query = self.pairs.frames[pair_index]
        return f"{db_scene}/{db}", f"{query_scene or db_scene}/{query}"


def load_matched_pairs(
    config: ml_collections.ConfigDict, say: Callable[[str], None]
) -> tuple[MatchedSet, MatchedSet]:
    """Training pairs (drawn by weight, without end) and validation pairs (once through).

    The loaders give this process's share of each global batch.

    Raises:
      UsageError: the data is not there, or was made with other settings.
    """
    return _matched_set(config, "train", say), _matched_set(config, "validation", say)


def _matched_set(
    config: ml_collections.ConfigDict, role: str, say: Callable[[str], None]
) -> MatchedSet:
    parts, shares, scenes = [], [], []
    for source in config.data.sources:
        paths = _made(config, source, role, say)
        pairs = matched_pairs.concatenate(
            [matched_pairs.load(path, config.data.loaded_matches) for path in paths]
        )
        parts.append(pairs)
        shares.append(np.full(len(pairs), source.get("weight", 1.0) / len(pairs)))
        scenes += [path.name.removesuffix(matched_pairs.SUFFIX) for path in paths]
    loader = MatchLoader(
        pairs := matched_pairs.concatenate(parts),
        batch_size=config.batch_size,
        train=role == "train",
        weights=np.concatenate(shares),
        seed=config.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    return MatchedSet(scenes, pairs, loader)


def _made(
    config: ml_collections.ConfigDict,
    source: Mapping[str, Any],
    role: str,
    say: Callable[[str], None],
) -> list[pathlib.Path]:
    """The files of a source's pairs, made first where they are not there."""
    data, splits = config.data, source[f"{role}_splits"]
    settings = MatchMaking(
        image_sizes=tuple(tuple(size) for size in data.image_sizes),
        num_pairs=data[f"{role}_pairs_per_scene"],
        unrelated_share=data.unrelated_share,
        description=network_weights.description_name(config.model),
        seed=0,
    )
    folder = matches_folder(data.matches_dir, source["dataset"], splits)
    scenes = read_record(folder, settings)
    if scenes is None:
        read = _scene_readers(data, source["dataset"], splits)
        say(f"matching {len(read)} scenes of {source['dataset']} into {folder}; done once")
        write_record(folder, settings, None)
        networks = [matcher(config.model, size) for size in settings.image_sizes]
        write_scenes(read, networks, folder, settings, say)
        scenes = [name for name, _ in read]
        write_record(folder, settings, scenes)
    return [folder / f"{name}{matched_pairs.SUFFIX}" for name in scenes]


def matches_folder(matches_dir: str, dataset: str, splits: Sequence[str]) -> pathlib.Path:
    """Where the matched pairs of some splits of a dataset are kept."""
    return pathlib.Path(matches_dir).expanduser() / dataset.replace("/", "-") / splits[0]


def read_record(folder: pathlib.Path, settings: MatchMaking) -> list[str] | None:
    """The scenes in a complete folder; None where it is not complete.

    Raises:
      UsageError: it was made, or begun, with other settings.
    """
    path = folder / RECORD
    if not os.path.lexists(path):
        return None
    try:
        record = parse_json(read_text(path), str(path))
        made, scenes = record["settings"], record["scenes"]
        if scenes is not None and not all(map(SCENE_NAME.fullmatch, scenes)):
            raise ValueError("a scene's name cannot be a file's")
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: damaged ({error!r}); delete its folder, and the matches are made again"
        ) from error
    if made != _plain(settings):
        raise UsageError(
            f"{path}: made with {made}, not {_plain(settings)}; give another data.matches_dir, or "
            "those settings"
        )
    return scenes


def write_record(folder: pathlib.Path, settings: MatchMaking, scenes: list[str] | None) -> None:
    """Marks a folder as complete, or with None as begun."""
    record = {"settings": _plain(settings), "scenes": scenes}
    files.write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")


def matcher(model: ml_collections.ConfigDict, canvas: tuple[int, int]):
    """The network of `config.model` as it is before anything is trained."""
    from jaxreloc.localization.networks.match_network import MatchNetwork

    network = build_network(model)
    first = first_variables(model, network, jax.random.key(0))
    config = {"model": model.to_dict(), "data": {"image_size": canvas}}
    return MatchNetwork(LoadedNetwork(network, first, config))


def _plain(settings: MatchMaking) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def _scene_readers(data, dataset: str, splits: Sequence[str]) -> list[tuple[str, Callable]]:
    where = {"data_dir": data.data_dir, "data_path": data.data_path}
    names = datasets.scene_names(dataset, split=splits[0], **where)

    def reader(scene: str) -> Callable:
        load = functools.partial(datasets.load_frames, dataset, scene, **where)
        return lambda: [load(split, skip_bad_frames=data.skip_bad_frames) for split in splits]

    return [(name, reader(name)) for name in names]
