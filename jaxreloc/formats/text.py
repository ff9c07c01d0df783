"""Reading text files of rows of fields, with the place of every row for the message."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence

from jaxreloc.usage import UsageError


@dataclasses.dataclass(frozen=True)
class Row:
    """The fields of one line."""

    source: str  # "file:line"
    fields: tuple[str, ...]


def read_text(path: str | pathlib.Path) -> str:
    """The file's text, UTF-8 with or without a byte-order mark.

    Raises:
      UsageError: it cannot be read or is not text.
    """
    try:
        return pathlib.Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file; check that it is the right file") from error


def read_rows(path: str | pathlib.Path, *, separator: str | None = None) -> list[Row]:
    """The lines of a text file split into fields; empty lines and `#` comments are left out."""
    return parse_rows(read_text(path), str(path), separator=separator)


def parse_rows(text: str, source: str, *, separator: str | None = None) -> list[Row]:
    """As `read_rows`, for text that is already in memory."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if line and not line.startswith("#"):
            fields = tuple(field.strip() for field in line.split(separator))
            rows.append(Row(f"{source}:{number}", fields))
    return rows


def numbers(fields: Sequence[str], source: str, what: str) -> list[float]:
    """`fields` as finite numbers.

    Raises:
      UsageError: one is not a number, or NaN or infinite.
    """
    try:
        values = [float(field) for field in fields]
    except ValueError as error:
        raise UsageError(f"{source}: {what} is not a number ({error}); mend the line") from error
    if not all(math.isfinite(value) for value in values):
        raise UsageError(f"{source}: {what} has NaN or infinite values; remove or mend the line")
    return values
