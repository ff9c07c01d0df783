"""What a script says on stderr: a user's mistake in one line, no traceback; warnings plainly."""

import logging
import sys
from collections.abc import Callable, Iterable

from absl import app, flags
from absl import logging as absl_logging

from jaxreloc import interrupts

EXIT_STATUS = 2
MAX_WORD = 1000  # characters; paths are shorter
MESSAGE = "%(message)s"  # of the log: the sentence alone


class UsageError(Exception):
    """A user's mistake. The message is one line naming the file, the field and the remedy."""


class CommonError(UsageError):
    """A mistake that all frames share, so that leaving one out does not help."""


def check_choice(kind: str, name: str, known: Iterable[str]) -> None:
    """Raises UsageError, listing the known names, unless `name` is one of them."""
    known = sorted(known)
    if name not in known:
        raise UsageError(f"unknown {kind} {name!r}; known: {', '.join(known)}")


def run_script(main: Callable[[list[str]], None]) -> None:
    """Parses flags and runs `main(argv)`; a UsageError or a wrong flag ends it in one line."""

    def parse(argv: list[str]) -> list[str]:
        try:
            return flags.FLAGS(argv)
        except (flags.Error, UsageError) as error:
            _fail(error)

    def guarded(argv: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            absl_logging.set_verbosity(absl_logging.WARNING)
        show_warnings()
        try:
            main(argv)
        except UsageError as error:
            _fail(error)
        except KeyboardInterrupt as error:
            interrupts.end(str(error))
        interrupts.leave()

    interrupts.install()
    app.run(guarded, flags_parser=parse)


def show_warnings() -> None:
    """Shows warnings on standard error, each as its sentence alone.

    A script's flags have brought absl's handler; its format is replaced.
    """
    logging.basicConfig(level=logging.WARNING, format=MESSAGE)
    absl_logging.get_absl_handler().setFormatter(logging.Formatter(MESSAGE))


def one_line(message: object) -> str:
    """The message without its line breaks, nor the middle of words longer than anybody reads."""
    return " ".join(
        word if len(word) <= MAX_WORD else f"{word[: MAX_WORD // 2]}[...]{word[-MAX_WORD // 4 :]}"
        for word in str(message).split()
    )


def _fail(error: Exception) -> None:
    print(f"error: {one_line(error)}", file=sys.stderr)
    sys.exit(EXIT_STATUS)
