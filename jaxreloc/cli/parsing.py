"""Calls a typed function with the flags of a command line; tyro reads its signature.

A parameter that is a dataclass is a group of flags. tyro draws a mistake as a box of several lines,
so that flags and values are checked here before it sees them, and each mistake is one line.
"""

import dataclasses
import difflib
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator, Sequence

import tyro

from jaxreloc.usage import UsageError

HELP = ("-h", "--help")
_NUMBERS = {int: "whole number", float: "number"}
OVERRIDES = "overrides"  # a parameter of this name takes the flags that start with --config.


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


# Several values in one flag: `--names=a.jpg,b.jpg`.
Listed = typing.Annotated[
    tuple[str, ...],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="A,B",
        instance_from_str=lambda given: _parts(given[0]),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(value)],
    ),
]


def flag(help: str, metavar: str | None = None) -> object:
    """An annotation: what the flag says in `--help`, on a line of its own if it is short."""
    return tyro.conf.arg(help=help, metavar=metavar, help_behavior_hint="")


def numbers(name: str, given: Sequence[str], count: int) -> tuple[float, ...]:
    """The values of a flag that takes so many numbers, separated by commas.

    Raises:
      UsageError: they are not as many, or not finite numbers.
    """
    try:
        values = tuple(float(part) for part in given)
    except ValueError:
        values = ()
    if len(values) != count or not all(map(math.isfinite, values)):
        raise UsageError(f"--{name}={','.join(given)}: give {count} numbers, separated by commas")
    return values


def call(function: Callable[..., None], argv: Sequence[str], program: str) -> None:
    """Parses `argv` by the signature of `function` and calls it.

    Raises:
      UsageError: a flag is unknown, missing or has a wrong value.
      SystemExit: help was asked for, and printed.
    """
    flags = {flag.name: flag for flag in _flags(function)}
    argv, overrides = _split_overrides(argv) if flags.pop(OVERRIDES, None) else (argv, ())
    if not set(argv) & set(HELP):
        _check(argv, flags, program)

    @functools.wraps(function)
    def bind(**arguments):
        return functools.partial(function, **arguments)

    bound = tyro.cli(
        bind,
        prog=program,
        description=inspect.getdoc(function),
        args=list(argv),
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    bound(**({OVERRIDES: overrides} if overrides else {}))


def nearest(wrong: str, known: Sequence[str]) -> str:
    """What was probably meant, else all that is known."""
    close = difflib.get_close_matches(wrong, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


@dataclasses.dataclass(frozen=True)
class _Flag:
    """A flag, its name with underscores, and the types of its value."""

    name: str
    required: bool
    kinds: tuple[object, ...]

    @property
    def is_switch(self) -> bool:
        return self.kinds == (bool,)

    def check(self, value: str) -> None:
        """Raises UsageError if the value has none of the types."""
        for kind in self.kinds:
            choices = typing.get_args(kind)
            if typing.get_origin(kind) is typing.Literal and value not in choices:
                raise UsageError(f"--{self.name}={value}: known: {', '.join(choices)}")
            if kind in _NUMBERS:
                try:
                    kind(value)
                except ValueError:
                    raise UsageError(f"--{self.name}={value}: is no {_NUMBERS[kind]}") from None


def _flags(function: Callable[..., object]) -> Iterator[_Flag]:
    hints = typing.get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        is_union = typing.get_origin(hint) in (types.UnionType, typing.Union)
        kinds = typing.get_args(hint) if is_union else (hint,)
        if dataclasses.is_dataclass(hint):
            yield from _flags(hint)
        else:
            switched_off = kinds == (bool,) and parameter.default is True
            required = parameter.default is inspect.Parameter.empty
            yield _Flag(f"no_{name}" if switched_off else name, required, kinds)


def _split_overrides(argv: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The flags but those of the config's fields, and these: `--config.FIELD=VALUE`."""
    own, overrides, rest = [], [], list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith(("--config.", "--noconfig.")):
            own.append(word)
            continue
        overrides.append(word)
        if "=" not in word and rest and not rest[0].startswith("-"):
            overrides.append(rest.pop(0))
    return own, tuple(overrides)


def _check(argv: Sequence[str], flags: dict[str, _Flag], program: str) -> None:
    """Raises UsageError for the first mistake in `argv`."""
    rest, given = list(argv), set()
    while rest:
        written, equals, value = rest.pop(0).partition("=")
        if not written.startswith("--"):
            raise UsageError(f"unknown argument {written!r}; flags start with --")
        name = written[2:].replace("-", "_")
        if name not in flags:
            remedy = nearest(f"--{name}", [f"--{known}" for known in flags])
            raise UsageError(f"{program} takes no {written}; {remedy}")
        given.add(name)
        if flags[name].is_switch:
            if equals:
                raise UsageError(f"{written} takes no value; leave {equals}{value} out")
            continue
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UsageError(f"{written} has no value; give {written}=VALUE")
            value = rest.pop(0)
        flags[name].check(value)
    for flag in flags.values():
        if flag.required and flag.name not in given:
            raise UsageError(f"--{flag.name} is missing; see {program} --help")
