"""Peers that need packages which this project does not."""

import importlib.util
from collections.abc import Sequence


def are_installed(peer: str, packages: Sequence[str]) -> bool:
    """Whether a peer's packages are; says what to install if not."""
    if all(importlib.util.find_spec(name.replace("-", "_")) for name in packages):
        return True
    print(f"{peer} is left out; `pip install {' '.join(packages)}` brings it.")
    return False
