"""What structure from motion keeps on disk, so that a second run goes on from it.

    MAP.sfm/photographs.json   of which pictures, by size and time of change
    MAP.sfm/database.db        COLMAP's: cameras, features, matches
    MAP.sfm/models/0, 1, ...   COLMAP's: groups of images that hang together
    MAP.sfm/frames-...         the keyframes of a video
"""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence

from jaxreloc import files
from jaxreloc.capture.photographs import Photograph
from jaxreloc.usage import UsageError

SUFFIX = ".sfm"
FORMAT = "jaxreloc structure from motion"
VERSION = 1
LOCK = "lock"
MAX_BYTES = 1 << 28


class WorkFolder:
    """The folder, and where things lie in it."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.state = path / "photographs.json"
        self.database = path / "database.db"
        self.models = path / "models"

    @property
    def has_models(self) -> bool:
        """Whether mapping is done."""
        return self.models.is_dir()

    def start(self, photographs: Sequence[Photograph]) -> None:
        """Forgets what is of other pictures than these.

        Features and matches of pictures that are still there, unchanged, are kept.
        """
        now, before = _state(photographs), self._read_state()
        if now == before:
            return
        shutil.rmtree(self.models, ignore_errors=True)
        if not (before.items() <= now.items()):
            self._forget_database()
        content = {"format": FORMAT, "version": VERSION, "photographs": now}
        files.write_text(self.state, json.dumps(content, indent=1) + "\n")

    def _read_state(self) -> dict[str, list[int]]:
        try:
            content = json.loads(files.read_bytes(self.state, limit=MAX_BYTES).decode())
            if (content["format"], content["version"]) == (FORMAT, VERSION):
                return dict(content["photographs"])
        except (UsageError, ValueError, KeyError, TypeError, RecursionError):
            pass
        self._forget_database()  # whose pictures are not known
        return {}

    def _forget_database(self) -> None:
        for path in self.path.glob(f"{self.database.name}*"):
            path.unlink()


@contextlib.contextmanager
def work_folder(out: pathlib.Path) -> Iterator[WorkFolder]:
    """The folder beside the map `out`; made here, it is removed again if no model comes out.

    Raises:
      UsageError: it cannot be written, or another program is at work in it.
    """
    path = out.with_name(out.name + SUFFIX)
    is_new = not os.path.lexists(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / LOCK, "wb")
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written ({error.strerror}); choose another --out"
        ) from error
    folder = WorkFolder(path)
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{path}: another program makes this map; wait for it") from error
        try:
            yield folder
        except Exception:
            if is_new and not folder.has_models:
                shutil.rmtree(path, ignore_errors=True)
            raise


def _state(photographs: Sequence[Photograph]) -> dict[str, list[int]]:
    status = {photograph.name: os.stat(photograph.path) for photograph in photographs}
    return {name: [found.st_size, found.st_mtime_ns] for name, found in status.items()}
