"""What a run leaves beside its checkpoints: its config, its code and its environment."""

import hashlib
import importlib.metadata
import json
import pathlib
import platform
import sys
from typing import Any

import jax
import ml_collections

import jaxreloc
from jaxreloc import files
from jaxreloc.usage import UsageError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "jaxlie", "grain", "numpy")
# A resumed run may differ in these: they change when it reports and ends, not what it computes
# (but for the number of steps under a schedule that ends with them).
FREE_FIELDS = (
    "task",  # the fields of another task differ, and the oldest runs do not name theirs
    "num_steps",
    "log_every",
    "validate_every",
    "checkpoint_every",
    "data.data_dir",
    "data.data_path",
    "data.pair_list",  # what it lists is compared by itself
    "data.num_workers",
    "data.cache_dir",
    "data.matches_dir",
    "data.features_dir",
)


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The config as JSON holds it: tuples become lists."""
    return json.loads(config.to_json_best_effort())


def code_version() -> str:
    """A digest of the package's source files, the same wherever the package lies."""
    folder = pathlib.Path(jaxreloc.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def environment() -> dict[str, Any]:
    """Software, machine and devices."""
    return {
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "devices": [str(device) for device in jax.devices()],
        "processes": jax.process_count(),
        "code_version": code_version(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # Grain, where batches come from elsewhere
        return None


def write_environment(workdir: pathlib.Path) -> None:
    """Writes `environment.json`.

    Raises:
      UsageError: the workdir cannot be written.
    """
    files.write_text(workdir / "environment.json", json.dumps(environment(), indent=2) + "\n")


def write_config(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Writes `config.json`."""
    files.write_text(workdir / "config.json", json.dumps(plain(config), indent=2) + "\n")


def check_same_config(
    saved: dict[str, Any], config: ml_collections.ConfigDict, source: pathlib.Path
) -> None:
    """Raises UsageError, naming each field, if resuming `saved` by `config` would mix two runs."""
    before, now = _flatten(saved), _flatten(plain(config))
    free = set(FREE_FIELDS)
    if now.get("optimizer.schedule") == "cosine":
        free.discard("num_steps")
    differing = [
        f"{name} {before.get(name)!r} there, {now.get(name)!r} now"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name) and name not in free
    ]
    if differing:
        raise UsageError(
            f"{source} is of a run with another config: {'; '.join(differing)}; "
            "give the same config or another --workdir"
        )


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
