"""Chooses the subcommand; a user's mistake becomes one line on stderr and exit status 2."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence

import jaxreloc
from jaxreloc import interrupts
from jaxreloc.cli import parsing
from jaxreloc.usage import EXIT_STATUS, UsageError, one_line, show_warnings

PROGRAM = "jaxreloc"
VERSION = "--version"
# Each subcommand's module and function.
COMMANDS = {
    "map build": ("map", "build"),
    "map add": ("map", "add"),
    "map remove": ("map", "remove"),
    "map depth": ("map", "depth"),
    "map index": ("map", "index"),
    "map info": ("map", "info"),
    "map check": ("map", "check"),
    "map merge": ("map", "merge"),
    "map export": ("map", "export"),
    "query": ("query", "query"),
    "serve": ("serve", "serve"),
    "eval": ("eval", "evaluate"),
    "train": ("train", "train"),
}


def main() -> None:
    """The entry point of `jaxreloc`."""
    _exit_after(sys.argv[1:])


def script(command: str) -> None:
    """The entry point of a script that is one subcommand, such as run_eval.py."""
    _exit_after(sys.argv[1:], command)


def _exit_after(argv: Sequence[str], command: str | None = None) -> None:
    interrupts.install()
    for stream in (sys.stdout, sys.stderr):  # a file's name may be no UTF-8
        stream.reconfigure(errors="backslashreplace")
    status = run(argv, command)
    interrupts.leave()
    sys.exit(status)


def run(argv: Sequence[str], command: str | None = None) -> int:
    """Runs a command line, of `command` if it is given; returns the exit status."""
    show_warnings()
    try:
        if command is not None:
            parsing.call(_function(command), argv, f"{PROGRAM} {command}")
        else:
            _dispatch(list(argv))
        sys.stdout.flush()
    except UsageError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return EXIT_STATUS
    except KeyboardInterrupt:  # where `interrupts` is not installed
        return interrupts.EXIT_STATUS
    except BrokenPipeError:  # nobody reads any more (`| head`); Python would say so at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # a folder that may not be read, a disk that fails
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {one_line(where + (error.strerror or str(error)))}", file=sys.stderr)
        return EXIT_STATUS
    return 0


def _dispatch(argv: list[str]) -> None:
    if argv[:1] == [VERSION]:
        print(jaxreloc.__version__)
        return
    for length in (2, 1):
        command = " ".join(argv[:length])
        if command in COMMANDS:
            parsing.call(_function(command), argv[length:], f"{PROGRAM} {command}")
            return
    within = "map" if argv[:1] == ["map"] else ""
    rest = argv[1:] if within else argv
    if not rest or rest[0] in parsing.HELP:
        print(_overview(within))
        return
    known = [command for command in COMMANDS if command.startswith(within)]
    wrong = " ".join((within, rest[0])).strip()
    if not rest[0].startswith("-"):
        raise UsageError(f"no command {wrong!r}; {parsing.nearest(wrong, known)}")
    flags = parsing.HELP[1:] if within else (VERSION, *parsing.HELP[1:])
    raise UsageError(f"no command {wrong!r}; {parsing.nearest(rest[0], (*flags, *known))}")


def _function(command: str) -> Callable[..., None]:
    module, function = COMMANDS[command]
    return getattr(importlib.import_module(f"jaxreloc.cli.{module}"), function)


def _overview(within: str) -> str:
    """The commands, each with the first line of its function's docstring."""
    lines = [
        f"usage: {' '.join((PROGRAM, within)).strip()} COMMAND --FLAG=VALUE ...",
        "",
        jaxreloc.__doc__.splitlines()[0],
        "",
    ]
    for command in COMMANDS:
        if command.startswith(within):
            summary = inspect.getdoc(_function(command)).splitlines()[0]
            lines.append(f"  {command:12}{summary}")
    return "\n".join([*lines, "", f"`{PROGRAM} COMMAND --help` lists its flags."])
