"""What is computed once of a scene's pictures, and kept in a file of arrays."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from jaxreloc import files
from jaxreloc.usage import UsageError

T = TypeVar("T")


def kept_arrays(
    path: pathlib.Path,
    kind: type[T],
    make: Callable[[], T],
    check: Callable[[T], None],
    what: str,
) -> T:
    """A dataclass of arrays, read from `path` or made and kept there.

    Args:
      check: raises where what was read is not of these pictures.
      what: the arrays are of, for the message.

    Raises:
      UsageError: the file is damaged or cannot be written.
    """
    if path.exists():
        files.check_regular(path)
        try:
            with np.load(path, allow_pickle=False) as archive:
                found = kind(**dict(archive))
            check(found)
            return found
        except Exception as error:  # of the zip, of its members and of NumPy's headers: any
            message = f"{path}: not a file of {what} ({error}); delete it, and it is made again"
            raise UsageError(message) from error
    made = make()
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **dataclasses.asdict(made))
    return made
