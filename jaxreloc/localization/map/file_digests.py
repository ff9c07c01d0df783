"""SHA-256 of the files of a folder, and of the rows of its arrays, kept beside them in files.json.

A digest of files.json itself, kept elsewhere, so vouches for the whole folder. A file that is read
whole is checked then; an array that is mapped into memory is checked row by row, each row as it is
first read.
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

import numpy as np

from jaxreloc import files
from jaxreloc.formats.common.text import parse_json
from jaxreloc.usage import UsageError

FILE_NAME = "files.json"
ROW_DIGEST_BYTES = 8
MAX_BYTES = 1 << 28


@dataclasses.dataclass(frozen=True)
class FileDigests:
    """What files.json says."""

    folder: pathlib.Path
    files: Mapping[str, str]  # by their path in the folder
    rows: Mapping[str, np.ndarray]  # of arrays, by their path

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
          UsageError: it is absent, or not the one that was written.
        """
        path = self.folder / name
        content = files.read_bytes(path, limit=MAX_BYTES)
        if hashlib.sha256(content).hexdigest() != self.files.get(name):
            raise changed(path)
        return content

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """A file, from its beginning; another of its name may take its place meanwhile.

        Raises:
          UsageError: it is absent, or not the one that was written.
        """
        path = self.folder / name
        with files.open_regular(path) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self.files.get(name):
                raise changed(path)
            file.seek(0)
            yield file

    def problems(self) -> Iterator[str]:
        """A line for each file that is absent, or not the one that was written."""
        for name in sorted(self.files):
            try:
                with self.opened(name):
                    pass
            except UsageError as error:
                yield str(error)


class CheckedRows(Sequence):
    """An array whose rows are checked as they are first read."""

    def __init__(self, array: np.ndarray, digests: np.ndarray, path: pathlib.Path):
        self.array = array
        self._digests = digests
        self._path = path
        self._is_checked = bytearray(len(array))
        if len(digests) != len(array):
            raise changed(path)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, i: int) -> np.ndarray:
        i = range(len(self))[i]
        row = self.array[i]
        if not self._is_checked[i]:
            if _row_digest(row).encode() != self._digests[i]:
                raise changed(self._path)
            self._is_checked[i] = True
        return row

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """All rows, each of them checked."""
        for i in range(len(self)):
            self[i]
        return np.asarray(self.array, dtype)


def write_digests(
    folder: pathlib.Path,
    names: Sequence[str],
    arrays: Mapping[str, np.ndarray],
    file_name: str = FILE_NAME,
) -> str:
    """Writes the digests of files into one, whose own digest it returns.

    Args:
      names: of the files, by their path in the folder.
      arrays: that are to be checked by row, by the names of their files.
    """
    digests = {name: files.sha256(folder / name) for name in names}
    rows = {name: [_row_digest(row) for row in array] for name, array in arrays.items()}
    content = json.dumps({"sha256": digests, "rows": rows}).encode()
    files.write_bytes(folder / file_name, content)
    return hashlib.sha256(content).hexdigest()


def read_digests(
    folder: pathlib.Path, sha256: str, file_name: str = FILE_NAME
) -> FileDigests:
    """What `write_digests` wrote.

    Raises:
      UsageError: it is absent, or not the one that was written.
    """
    content = FileDigests(folder, {file_name: sha256}, {}).read(file_name)
    path = folder / file_name
    try:
        parsed = parse_json(content.decode(), str(path))
        digests = {str(name): str(digest) for name, digest in parsed["sha256"].items()}
        rows = {str(name): _row_digests(each) for name, each in parsed["rows"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: damaged ({error!r}); build the map again") from error
    return FileDigests(folder, digests, rows)


def _row_digests(told: list[str]) -> np.ndarray:
    if not isinstance(told, list):
        raise TypeError("digests of rows are no list")
    return np.array([str(one) for one in told], "S")


def changed(path: pathlib.Path) -> UsageError:
    """That a file is not the one that was written."""
    return UsageError(
        f"{path}: damaged, or of another map (its checksum is not the one that was written); copy "
        "or build the map again"
    )


def _row_digest(row: np.ndarray) -> str:
    """Of its numbers, their type and their order."""
    digest = hashlib.blake2b(f"{row.dtype.str} {row.shape}".encode(), digest_size=ROW_DIGEST_BYTES)
    digest.update(np.ascontiguousarray(row))
    return digest.hexdigest()
