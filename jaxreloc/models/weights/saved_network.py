"""A network ready for inference as one file: its parameters, with its config in the header.

The file is safetensors, which holds arrays and strings only, so that reading one runs no code. It
is complete whenever it exists, since it takes its place by rename.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxreloc import files
from jaxreloc.models import build
from jaxreloc.models.siamese import SiameseNetwork
from jaxreloc.models.weights import variables
from jaxreloc.models.weights.backbone_weights import DEFAULT, load_backbone
from jaxreloc.usage import UsageError

FILE_NAME = "network.safetensors"
SIAMESE = "siamese"  # the kind of network of a file whose header names none, as ours
BACKBONE = "backbone"  # the part of a network that a file may leave to the backbone's package
# Where a training's workdir keeps its networks, in the order of preference.
WORKDIR_FOLDERS = ("best", "last")


@dataclasses.dataclass(frozen=True)
class LoadedNetwork:
    """A network with its variables and the whole config that `save_network` was given."""

    network: SiameseNetwork
    variables: dict[str, Any]
    config: dict[str, Any]

    def save(self, folder: str | pathlib.Path) -> pathlib.Path:
        """Writes it as `save_network` does."""
        return save_network(folder, self.config, self.variables)


def save_network(
    folder: str | pathlib.Path, config: Mapping[str, Any], network_variables: Mapping[str, Any]
) -> pathlib.Path:
    """Writes `folder/network.safetensors` by rename and returns its path.

    Args:
      config: what JSON can hold; `config["model"]` builds the network (`build.NetworkConfig`), the
        rest, such as the image size, is kept for whoever uses the network.
      network_variables: `{"params": ..., "batch_stats": ...}` of one replica.

    Raises:
      UsageError: the folder cannot be written.
    """
    return _write(folder, config, variables.flatten(network_variables))


def save_head(folder: str | pathlib.Path, loaded: LoadedNetwork) -> pathlib.Path:
    """Writes a network as `save_network` does, but in half precision and without its backbone.

    `read_network` takes the backbone's weights from where they came from, `model.pretrained`.

    Raises:
      UsageError: these are not the backbone's weights, or the folder cannot be written.
    """
    named = variables.flatten(loaded.variables)
    head = {name: np.asarray(x, np.float16) for name, x in named.items() if not _of_backbone(name)}
    rest = _pretrained_backbone(loaded.config["model"])
    if any(not np.array_equal(named[name], x) for name, x in rest.items()) or not rest:
        raise UsageError(
            f"{folder}: a head is kept alone where the backbone has its first weights, of "
            'model.pretrained="default", and this one has others; keep the whole network'
        )
    return _write(folder, loaded.config, head)


def _write(
    folder: str | pathlib.Path, config: Mapping[str, Any], named: Mapping[str, Any]
) -> pathlib.Path:
    config = _plain(config)
    build.NetworkConfig.parse(config["model"])
    arrays = {name: np.ascontiguousarray(array) for name, array in named.items()}
    text = json.dumps(config)
    metadata = {"config": text, "sha256": _digest(text, arrays)}
    path = pathlib.Path(folder) / FILE_NAME
    with files.replacing(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save(arrays, metadata))
    return path


def read_network(
    path: str | pathlib.Path, model: Mapping[str, Any] | None = None
) -> LoadedNetwork:
    """Reads a network from a workdir (its `best`, else its `last`), a folder or a file.

    Args:
      model: `config.model` of the network to load into, where the caller insists on one; the
        saved config's otherwise.

    Raises:
      UsageError: there is no network, or it does not fit; every parameter that does not match is
        listed.
    """
    path = find(pathlib.Path(path))
    config, named = read_file(path)
    network = build.build_network(config["model"] if model is None else model)
    expected = build.variable_shapes(network)
    if not any(map(_of_backbone, named)):
        named = {name: np.asarray(x, np.float32) for name, x in named.items()}
        named |= _pretrained_backbone(config["model"])
    variables.check_match(expected, named, str(path), "choose the config that it was trained with")
    if wrong := sorted(name for name, array in named.items() if not _is_finite(array)):
        raise UsageError(f"{path}: {wrong[0]} has NaN or infinite values; train or copy it again")
    return LoadedNetwork(network, variables.unflatten(named), config)


def find(path: pathlib.Path) -> pathlib.Path:
    """The file of a network: of a workdir (its `best`, else its `last`), a folder, or itself.

    Raises:
      UsageError: there is none.
    """
    if os.path.isfile(path):
        return path
    for folder in (path, *(path / name for name in WORKDIR_FOLDERS)):
        if os.path.isfile(folder / FILE_NAME):
            return folder / FILE_NAME
    raise UsageError(
        f"{path}: no trained network ({FILE_NAME}) here, nor in {' or '.join(WORKDIR_FOLDERS)};"
        " train one with run_train.py --workdir, or name another folder"
    )


def kind_of(path: pathlib.Path) -> str:
    """What its header says to read a file with (`networks.loading.READERS`)."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("kind", SIAMESE)
    except (OSError, safetensors.SafetensorError):
        return SIAMESE  # whose reader says what is wrong


def digest_of_file(path: str | os.PathLike | None) -> str | None:
    """SHA-256 of a saved network's file, which `read_network` would read; None of none.

    Raises:
      UsageError: there is no network, or it cannot be read.
    """
    return None if path is None else files.sha256(find(pathlib.Path(path).expanduser()))


def read_file(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The config and the arrays of a file, whether or not they fit each other.

    Raises:
      UsageError: it is not a saved network.
    """
    files.check_regular(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            config = json.loads(metadata["config"])
            build.NetworkConfig.parse(config["model"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}
            # Files of earlier versions say nothing but the config; any other key may have been the
            # checksum's.
            is_signed = len(metadata) > 1
            if is_signed and metadata.get("sha256") != _digest(metadata["config"], arrays):
                raise ValueError("its checksum is not the one that was written")
            return config, arrays
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError),
        safetensors.SafetensorError,
    ) as error:
        message = f"{path}: not a saved network ({error}); train or copy it again"
        raise UsageError(message) from error


def _of_backbone(name: str) -> bool:
    return name.split(variables.SEPARATOR)[1:2] == [BACKBONE]


def _pretrained_backbone(model: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The backbone's variables by name, as the network that `model` describes began with them.

    None where it did not begin with the default ones.
    """
    parsed = build.NetworkConfig.parse(model)
    if parsed.pretrained != DEFAULT:
        return {}
    shapes = variables.unflatten(build.variable_shapes(build.build_network(model)))
    shapes = {collection: tree[BACKBONE] for collection, tree in shapes.items()}
    loaded = load_backbone(parsed.backbone, parsed.pretrained, shapes)
    return variables.flatten({name: {BACKBONE: tree} for name, tree in loaded.items()})


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind not in "fV" or bool(np.isfinite(array).all())


def _digest(config: str, arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the config's text and of every array with its name and type."""
    digest = hashlib.sha256(config.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\0{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _plain(config: Any) -> Any:
    """Mappings and sequences of any kind, ConfigDicts among them, as dicts and lists."""
    if hasattr(config, "items"):
        return {name: _plain(value) for name, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [_plain(value) for value in config]
    return config
