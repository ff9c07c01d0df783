"""The `--config` flag: a file with `get_config(variant)`, any field overridden by a flag."""

import os
import sys
from collections.abc import Sequence

from absl import flags

from jaxreloc.extras import extra
from jaxreloc.usage import UsageError

with extra("eval"):
    import ml_collections
    from ml_collections.config_flags import config_flags


def define_config(
    default: str | None = None, flag_values: flags.FlagValues = flags.FLAGS
) -> flags.FlagHolder:
    """Defines `--config=FILE[:VARIANT]` and `--config.FIELD=VALUE`.

    A file that is absent, and a field that the config does not have, raise UsageError while flags
    are parsed; the message lists the fields there are.
    """
    holder = config_flags.DEFINE_config_file(
        "config",
        default,
        "Config file, with its variant after a colon; see configs/.",
        flag_values=flag_values,
    )
    flag_values["config"].parser = _CheckedParser("config")
    return holder


class _CheckedParser(config_flags.ConfigFileFlagParser):
    """Loads a config and checks the names of its overrides before ml_collections meets them."""

    def parse(self, path: str) -> ml_collections.ConfigDict:
        if not os.path.isfile(path.split(":")[0]):
            raise UsageError(f"--{self.name}={path}: no such file; see configs/")
        config = super().parse(path)
        for override in overridden_fields(self.name, sys.argv):
            check_field(config, override)
        return config


def overridden_fields(flag: str, argv: Sequence[str]) -> list[str]:
    """`optimizer.learning_rate` of `--config.optimizer.learning_rate=1`, for every such flag."""
    names = (arg.lstrip("-").partition("=")[0] for arg in argv if arg.startswith("-"))
    return [name[len(flag) + 1 :] for name in names if name.startswith(f"{flag}.")]


def check_field(config: ml_collections.ConfigDict, path: str) -> None:
    """Raises UsageError, listing the fields there are, unless `config` has the dotted `path`."""
    inner, seen = config, "config"
    for name in path.split("."):
        if not isinstance(inner, ml_collections.ConfigDict) or name not in inner:
            is_group = isinstance(inner, ml_collections.ConfigDict)
            remedy = f"known: {', '.join(sorted(inner))}" if is_group else f"{seen} has no fields"
            raise UsageError(f"unknown config field {seen}.{name}; {remedy}")
        inner, seen = inner[name], f"{seen}.{name}"
