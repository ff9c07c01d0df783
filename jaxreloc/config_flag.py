"""Configs: a file with `get_config(variant)`, any field overridden by a flag."""

import importlib.machinery
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence

from absl import flags

from jaxreloc.extras import extra
from jaxreloc.usage import UsageError

with extra("train"):
    import ml_collections
    from ml_collections.config_flags import config_flags

REMEDY = "give a Python file with a get_config like those in configs/"


def load_config(path: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """The config of `FILE[:VARIANT]`, locked, with `--config.FIELD=VALUE` applied to it.

    Raises:
      UsageError: the file is absent or raises an error, it has no such field (the message lists
        those there are), or a value is of another type than the field's.
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
        file, *variant = path.split(":", 1)
        if not os.path.isfile(file):
            raise UsageError(f"--{self.name}={path}: no such file; see configs/")
        try:
            config = _config_of(file, variant)
        except (UsageError, KeyboardInterrupt):
            raise
        except BaseException as error:  # it may even exit
            raise UsageError(f"--{self.name}={path}: {_told(error, file)}; {REMEDY}") from error
        config.lock()
        for override in overridden_fields(
            self.name, sys.argv if self._argv is None else self._argv
        ):
            check_field(config, override)
        return config


def _config_of(file: str, variant: Sequence[str]) -> ml_collections.ConfigDict:
    """What `get_config(*variant)` of a Python file gives; its errors are those of the file."""
    name = "config_file"
    loader = importlib.machinery.SourceFileLoader(name, file)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.modules[name] = module  # where a dataclass of the file looks itself up
    loader.exec_module(module)
    config = module.get_config(*variant)
    if not isinstance(config, ml_collections.ConfigDict):
        raise TypeError(f"get_config gives {type(config).__name__}, no ml_collections.ConfigDict")
    return config


def _told(error: BaseException, file: str) -> str:
    """Type, message and, where it lies in the file, line."""
    if isinstance(error, SyntaxError):
        lines, message = [error.lineno] if error.filename == file else [], error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        lines, message = [x.lineno for x in frames if x.filename == file], str(error)
    line = f"line {lines[-1]}: " if lines else ""
    return f"{line}{type(error).__name__}: {message}"


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
