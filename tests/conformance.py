"""Whether an object is what a `Protocol` says."""

import inspect
from typing import Any


def assert_conforms(instance: Any, protocol: type) -> None:
    """It has every member, and its methods are called as those of the protocol are.

    `isinstance` asks for the members alone.
    """
    methods = {
        name: member
        for name, member in vars(protocol).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }
    members = {*methods, *vars(protocol).get("__annotations__", {})}
    missing = {name for name in members if not hasattr(instance, name)}
    assert members and not missing, f"{type(instance)} has no {missing}"
    assert isinstance(instance, protocol)
    for name, method in methods.items():
        found = getattr(type(instance), name)
        assert arguments(found) == arguments(method), f"{type(instance)}.{name}"


def arguments(function) -> list[tuple]:
    """Name, kind and default of each."""
    each = inspect.signature(function).parameters.values()
    return [(x.name, x.kind, x.default) for x in each]
