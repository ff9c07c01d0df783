"""The answers of a run of queries, kept line by line as they come.

While it runs they are in OUT.partial, as JSON with all that is known; its first line says of which
run. At the end OUT is written from them, in any format. What ends the run early leaves OUT.partial,
from which it can go on.
"""

import fcntl
import os
import pathlib
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping

from jaxreloc import files
from jaxreloc.formats.localized_poses import LocalizedPose, json_line, parse_json_line
from jaxreloc.usage import UsageError

HEADER = "# jaxreloc query"
MAX_BYTES = 1 << 30


class AnswerFile:
    """Use as a context; `finish` puts the answers in their place.

    Args:
      out: the file to write in the end.
      settings: what answers depend on, in a line; a run only goes on from one of the same.
      resume: goes on from what an earlier run has left, if it has.

    Raises:
      UsageError: an earlier run has left answers and `resume` is not said, they are of other
        settings, another program is writing them, or the file cannot be written.
    """

    def __init__(self, out: pathlib.Path, settings: str, *, resume: bool):
        self.path = out.with_name(out.name + ".partial")
        self._out = out
        self._header = f"{HEADER} {settings}\n"
        self._answered: dict[str, bool] = {}
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            self._file = os.fdopen(os.open(self.path, flags, 0o666), "r+b", buffering=0)
            if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
                raise OSError(0, "it is a pipe or a device")
        except OSError as error:
            raise UsageError(
                f"{self.path}: cannot be written ({error.strerror}); choose another --out"
            ) from error
        try:
            self._take(resume)
        except BaseException:
            self._file.close()
            raise

    @property
    def answered(self) -> Mapping[str, bool]:
        """Whether each image was localized, by its name."""
        return self._answered

    def add(self, pose: LocalizedPose) -> None:
        """Keeps an answer; it is in the file when this returns.

        Raises:
          UsageError: the disk is full.
        """
        try:
            files.write_all(self._file, (json_line(pose) + "\n").encode())
        except OSError as error:
            raise UsageError(
                f"{self.path}: cannot be written ({error.strerror}); free space, then go on with "
                "--resume"
            ) from error
        self._answered[pose.name] = pose.success

    def finish(self, write: Callable[[pathlib.Path, Iterable[LocalizedPose]], object]) -> None:
        """Puts the answers in their place, by the `write` of an `AnswerFormat`."""
        write(self._out, self._kept())
        self.path.unlink(missing_ok=True)

    def _kept(self) -> Iterator[LocalizedPose]:
        self._file.seek(len(self._header.encode()))
        with open(os.dup(self._file.fileno()), "rb") as lines:
            for line in lines:
                yield parse_json_line(line.decode())

    def discard(self) -> None:
        """Forgets the answers, whose run shall write nothing."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> "AnswerFile":
        return self

    def __exit__(self, *error) -> None:
        if not self._answered:
            self.discard()
        self._file.close()

    def _take(self, resume: bool) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who had it before may have taken the file away between our opening and our locking it.
            if not os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path)):
                raise BlockingIOError
        except OSError as error:
            raise UsageError(
                f"{self.path}: another program is writing it; wait for it, or choose another --out"
            ) from error
        header, *lines = self._file.read(MAX_BYTES).split(b"\n")[:-1] or [b""]
        if lines and not resume:
            raise UsageError(
                f"{self.path}: an earlier run has left {len(lines)} answers; go on from them with "
                "--resume, or remove the file"
            )
        if lines and header + b"\n" != self._header.encode():
            raise UsageError(
                f"{self.path}: is of a run with another map or other flags; give the same, or "
                "remove the file"
            )
        for line in lines:
            try:
                pose = parse_json_line(line.decode())
            except ValueError as error:
                raise UsageError(f"{self.path}: damaged ({error}); remove it") from error
            self._answered[pose.name] = pose.success
        # A last line without an end was cut off by a crash.
        kept = len(header) + 1 + sum(len(line) + 1 for line in lines) if lines else 0
        self._file.truncate(kept)
        self._file.seek(kept)
        if not lines:
            files.write_all(self._file, self._header.encode())
