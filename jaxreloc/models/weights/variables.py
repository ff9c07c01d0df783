"""Variables of a network as a flat mapping of names to arrays, and how two of them differ."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from jaxreloc.usage import UsageError

SEPARATOR = "/"


def flatten(variables: Mapping[str, Any]) -> dict[str, Any]:
    """`{"params": {"head": {"kernel": x}}}` to `{"params/head/kernel": x}`."""
    return traverse_util.flatten_dict(variables, sep=SEPARATOR)


def unflatten(named: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    return traverse_util.unflatten_dict(named, sep=SEPARATOR)


def check_match(
    expected: Mapping[str, Any], found: Mapping[str, Any], source: str, remedy: str
) -> None:
    """Checks that two flat mappings have the same names and shapes.

    Raises:
      UsageError: they do not; every name that is missing, unknown or of another shape is listed.
    """
    differences = [f"{name} is missing" for name in sorted(set(expected) - set(found))]
    differences += [f"{name} is not in the network" for name in sorted(set(found) - set(expected))]
    for name in sorted(set(expected) & set(found)):
        want, have = np.shape(expected[name]), np.shape(found[name])
        if want != have:
            differences.append(f"{name} is {list(have)}, the network's is {list(want)}")
    if differences:
        summary = f"{source}: {len(differences)} parameters do not match ({remedy})"
        raise UsageError(f"{summary}: {'; '.join(differences)}")
