"""What the numbers of a config may be; a wrong one is said before anything is read or compiled."""

from collections.abc import Mapping
from typing import Any

from jaxreloc.usage import UsageError

MOST = 10**9
ABOVE_ZERO = 1e-12
# Lowest and highest, by the field's dotted name; of sequences, each number.
RANGES = {
    "seed": (0, 2**30),
    "batch_size": (1, 65_536),
    "num_steps": (1, MOST),
    "accumulation": (1, 65_536),
    "log_every": (1, MOST),
    "validate_every": (1, MOST),
    "checkpoint_every": (1, MOST),
    "data.num_pairs": (1, 10**7),
    "data.num_validation_pairs": (1, 10**7),
    "data.train_pairs_per_scene": (1, 10**6),
    "data.validation_pairs_per_scene": (1, 10**6),
    "data.loaded_matches": (1, 10**5),
    "data.unrelated_share": (0, 1),
    "data.short_side": (8, 8192),
    "data.crop": (8, 8192),
    "data.image_size": (32, 8192),
    "data.image_sizes": (32, 8192),
    "data.thinned_share": (0, 1),
    "data.jitter": (0, 1),
    "model.grid": (1, 256),
    "data.views": (1, 256),
    "data.turn_deg": (0, 60),
    "data.move_m": (0, 10),
    "data.num_workers": (0, 1024),
    "data.augmentation.turn_std_deg": (0, 180),
    "data.augmentation.kept": (0.01, 1),
    "loss.*": (0, 1e6),
    "optimizer.learning_rate": (ABOVE_ZERO, 1e3),
    "optimizer.warmup_steps": (0, MOST),
    "optimizer.decay_at": (1, MOST),
    "optimizer.decay_factor": (0, 1),
    "optimizer.b1": (0, 1 - ABOVE_ZERO),
    "optimizer.b2": (0, 1 - ABOVE_ZERO),
    "optimizer.eps": (ABOVE_ZERO, 1),
    "optimizer.weight_decay": (0, 1e3),
    "optimizer.max_gradient_norm": (ABOVE_ZERO, 1e12),
}
# Numbers in a sequence of fixed length, or in each sequence of one.
LENGTHS = {
    "model.grid": 2,
    "data.image_size": 2,
    "data.image_sizes": 2,
    "data.turn_deg": 3,
    "data.move_m": 3,
    "data.augmentation.turn_std_deg": 3,
}
WORDS = ("optimizer.frozen", "data.scenes", "data.train_splits", "data.validation_splits")


def check(config: Mapping[str, Any]) -> None:
    """Looks at every field that the config has; one that is None is not set.

    Raises:
      UsageError: a number is out of its range, or there is none where there should be.
    """
    for name, value in _leaves(config):
        if value is None:
            continue
        if name in WORDS:
            _check_words(name, value)
        group = f"{name.partition('.')[0]}.*"
        limits = RANGES.get(name) or RANGES.get(group)
        if limits and not isinstance(value, str):
            _check_length(name, value)
            for number in _numbers(name, value):
                _check_number(name, number, limits)


def _leaves(config: Mapping[str, Any], prefix: str = ""):
    for name, value in config.items():
        if hasattr(value, "items"):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _numbers(name: str, value: Any) -> list[Any]:
    if not isinstance(value, (tuple, list)):
        return [value]
    return [number for part in value for number in _numbers(name, part)]


def _check_number(name: str, number: Any, limits: tuple[float, float]) -> None:
    low, high = limits
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not is_number or not low <= number <= high:
        raise UsageError(f"config.{name}: {_short(number)} is no number from {low:g} to {high:g}")


def _check_length(name: str, value: Any) -> None:
    if name not in LENGTHS:
        return
    parts = value if name == "data.image_sizes" else (value,)
    right = isinstance(parts, (tuple, list)) and all(
        isinstance(part, (tuple, list)) and len(part) == LENGTHS[name] for part in parts
    )
    if not right or not parts:
        form = f"{LENGTHS[name]} numbers" + (" each" if name == "data.image_sizes" else "")
        raise UsageError(f"config.{name}: is {_short(value)}; give {form}")


def _check_words(name: str, value: Any) -> None:
    if not isinstance(value, (tuple, list)) or not all(isinstance(x, str) for x in value):
        raise UsageError(f"config.{name}: is {_short(value)}; give names")


def _short(value: Any) -> str:
    """Numbers may have thousands of digits, and Python refuses to print the longest."""
    try:
        return repr(value)[:100]
    except ValueError:
        return "it"
