"""Configs: a file with `get_config(variant)`, any field overridden by a flag."""

import os
import sys
from collections.abc import Sequence

from absl import flags

from jaxreloc.extras import extra
from jaxreloc.usage import UsageError

with extra("train"):
    import ml_collections
    from ml_collections.config_flags import config_flags


def load_config(path: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """The config of `FILE[:VARIANT]`, locked, with `--config.FIELD=VALUE` applied to it.

    Raises:
      UsageError: the file is absent, it has no such field (the message lists those there are), or a
        value is of another type than the field's.
    """
    values = flags.FlagValues()
    argv = ["config", f"--config={path}", *overrides]
    define_config(flag_values=values, argv=argv)
    try:
        values(argv)
    except flags.Error as error:
        raise UsageError(str(error)) from error
    return values["config"].value


def define_config(
    default: str | None = None,
    flag_values: flags.FlagValues = flags.FLAGS,
    argv: Sequence[str] | None = None,
) -> flags.FlagHolder:
    """Defines `--config=FILE[:VARIANT]` and `--config.FIELD=VALUE`; see `load_config`.

    Args:
      argv: what will be parsed; None means the process's own arguments.
    """
    holder = config_flags.DEFINE_config_file(
        "config",
        default,
        "Config file, with its variant after a colon; see configs/.",
        flag_values=flag_values,
        sys_argv=argv,
    )
    flag_values["config"].parser = _CheckedParser("config", argv)
    return holder


class _CheckedParser(config_flags.ConfigFileFlagParser):
    """Loads a config and checks the names of its overrides before ml_collections meets them."""

    def __init__(self, name: str, argv: Sequence[str] | None):
        super().__init__(name)
        self._argv = argv

    def parse(self, path: str) -> ml_collections.ConfigDict:
        if not os.path.isfile(path.split(":")[0]):
            raise UsageError(f"--{self.name}={path}: no such file; see configs/")
        config = super().parse(path)
        for override in overridden_fields(
            self.name, sys.argv if self._argv is None else self._argv
        ):
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
