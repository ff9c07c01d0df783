"""Reading text files of rows of fields, with the place of every row for the message."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from jaxreloc import files
from jaxreloc.usage import UsageError

MAX_BYTES = 1 << 28  # of a text that is read at once


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
        return files.read_bytes(path, limit=MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file; check that it is the right file") from error


def parse_json(text: str, source: str) -> Any:
    """What the text says in JSON.

    Raises:
      UsageError: it is not JSON, or nested deeper or of longer numbers than any file has.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{source}:{error.lineno}: not valid JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source}: not valid JSON ({error}); check the file") from error


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
