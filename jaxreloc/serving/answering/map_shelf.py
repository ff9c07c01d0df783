"""The maps of a folder, opened when they are asked for, as many as fit into the memory.

A map that was changed on disk is opened anew beside the old one, which answers until then.
"""

import concurrent.futures
import dataclasses
import logging
import pathlib
import threading
from collections.abc import Callable, Hashable
from typing import TypeVar

import numpy as np

from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.pictures import KEPT
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.usage import UsageError

T = TypeVar("T")
logger = logging.getLogger("jaxreloc.serving")


class UnknownMap(Exception):
    """There is no map of this name."""


class MapUnreadable(Exception):
    """The map is damaged, or of another version; the log says why."""


class Busy(Exception):
    """A map is being changed."""


@dataclasses.dataclass(frozen=True)
class OpenMap:
    """A map in memory.

    Attributes:
      generation: of the map on disk when it was opened; see `SceneMap.generation`.
      searches: set once focal lengths that are not known can be found without waiting for a
        program to compile.
    """

    name: str
    localizer: Localizer
    generation: Hashable
    num_bytes: int
    searches: threading.Event = dataclasses.field(default_factory=threading.Event)


class MapShelf:
    """Maps by name: the folders in `folder` that hold one, or `folder` itself.

    Args:
      open_localizer: opens the map in a folder; UsageError if it cannot.
      max_bytes: of open maps together; the one that is used now stays in any case.
      prepare_search: compiles, beside the queries, what finds focal lengths in an open map; whether
        it can find any. None: they are not searched.

    Raises:
      UsageError: there is no map in the folder.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        open_localizer: Callable[[pathlib.Path], Localizer],
        *,
        max_bytes: int,
        prepare_search: Callable[[Localizer], bool] | None = None,
    ):
        self._folder = folder
        self._single = SceneMap.generation(folder) is not None
        self._open_localizer = open_localizer
        self._max_bytes = max_bytes
        self._prepare_search = prepare_search
        self._open: dict[str, OpenMap] = {}  # least recently used first
        self._opening: dict[str, concurrent.futures.Future[OpenMap]] = {}
        self._refused: dict[str, Hashable] = {}  # generations that could not be opened
        self._lock = threading.Lock()
        # Opening and changing maps go on beside the queries, one at a time.
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "maps")
        self._preparing = concurrent.futures.ThreadPoolExecutor(1, "searches")
        self._is_changing = threading.Lock()
        self.num_swaps = 0
        if not self.names():
            raise UsageError(f"{folder}: no map in it; make one with jaxreloc map build")

    def names(self) -> list[str]:
        """Of all maps, in order."""
        if self._single:
            return [self._folder.resolve().name]
        try:
            inside = sorted(path.name for path in self._folder.iterdir())
        except OSError:
            return []
        return [name for name in inside if self._generation(name) is not None]

    def open_maps(self) -> list[OpenMap]:
        """Those in memory, the least recently used one first."""
        with self._lock:
            return list(self._open.values())

    def get(self, name: str) -> concurrent.futures.Future[OpenMap]:
        """A map, at once if it is open.

        Raises:
          UnknownMap: there is none of this name.
          MapUnreadable: it could not be opened, and is as it was; the future raises this, too.
        """
        generation = self._generation(name)
        with self._lock:
            if generation is None:
                self._open.pop(name, None)
                raise UnknownMap(name)
            known = self._open.pop(name, None)
            if known is None:
                if self._refused.get(name) == generation:
                    raise MapUnreadable(name)
                return self._start_opening(name)
            self._open[name] = known  # the last one now
            if known.generation != generation and self._refused.get(name) != generation:
                self._start_opening(name)
        done: concurrent.futures.Future[OpenMap] = concurrent.futures.Future()
        done.set_result(known)
        return done

    def renewed(self, name: str) -> concurrent.futures.Future[OpenMap]:
        """The map as it is on disk now, opened again if it was changed.

        Raises:
          UnknownMap: there is none of this name.
        """
        generation = self._generation(name)
        with self._lock:
            if generation is None:
                raise UnknownMap(name)
            known = self._open.get(name)
            if known is None or known.generation != generation:
                return self._start_opening(name)
        return self.get(name)

    def change(
        self, name: str, job: Callable[[pathlib.Path], T]
    ) -> concurrent.futures.Future[T]:
        """Runs `job` on the map's folder, then opens the map anew; one job at a time.

        Raises:
          UnknownMap: there is none of this name.
          Busy: another job runs.
        """
        if self._generation(name) is None:
            raise UnknownMap(name)
        if not self._is_changing.acquire(blocking=False):
            raise Busy(name)

        def run() -> T:
            try:
                result = job(self._path(name))
            finally:
                self._is_changing.release()
            if name in self._open:
                self._read(name)
            return result

        return self._thread.submit(run)

    def close(self) -> None:
        """Ends the threads, after what they do."""
        self._thread.shutdown(cancel_futures=True)
        self._preparing.shutdown(cancel_futures=True)

    def _start_opening(self, name: str) -> concurrent.futures.Future[OpenMap]:
        """Under the lock: what is being opened is not opened twice."""
        if name not in self._opening:
            self._opening[name] = self._thread.submit(self._read, name)
        return self._opening[name]

    def _read(self, name: str) -> OpenMap:
        generation = self._generation(name)  # before: what changes while it is read is seen later
        with self._lock:
            known = self._open.get(name)
        try:
            if known is not None and known.generation == generation:
                return known
            localizer = self._open_localizer(self._path(name))
            opened = OpenMap(name, localizer, generation, num_bytes(localizer.scene_map))
        except UsageError as error:
            logger.warning("map %s cannot be opened: %s", name, error)
            self._refused[name] = generation
            raise MapUnreadable(name) from error
        finally:
            with self._lock:
                self._opening.pop(name, None)
        with self._lock:
            self.num_swaps += self._open.pop(name, None) is not None
            self._open[name] = opened
            left = self._make_room()
        if self._prepare_search:
            self._preparing.submit(self._prepare, opened)
        logger.info("map %s is open: %d images", name, len(localizer.scene_map))
        for other in left:
            logger.info("map %s has left the memory", other)
        return opened

    def _prepare(self, opened: OpenMap) -> None:
        if self._prepare_search(opened.localizer):
            opened.searches.set()

    def _make_room(self) -> list[str]:
        """The least recently used maps leave until the others fit; under the lock."""
        left = []
        while len(self._open) > 1 and self._sum() > self._max_bytes:
            left.append(next(iter(self._open)))
            del self._open[left[-1]]
        return left

    def _sum(self) -> int:
        return sum(known.num_bytes for known in self._open.values())

    def _generation(self, name: str) -> Hashable | None:
        if self._single:
            return SceneMap.generation(self._folder) if name in self.names() else None
        is_name = name and "\0" not in name and name == pathlib.PurePosixPath(name).name
        if not is_name or name.startswith("."):
            return None
        return SceneMap.generation(self._path(name))

    def _path(self, name: str) -> pathlib.Path:
        return self._folder if self._single else self._folder / name


def num_bytes(scene_map: SceneMap) -> int:
    """What a map may take of the memory: its arrays, those on disk too, and decoded pictures."""
    first, count = np.zeros(1, int), len(scene_map)
    rows = [leaf.take(first).nbytes for leaf in scene_map.features]
    if scene_map.depth is not None:
        rows.append(scene_map.depth.codes[0].nbytes)
    rows.append(np.asarray(scene_map.descriptor_rows[0]).nbytes)
    # A decoded picture is grey, and as large as the network's input, which the cells cover.
    picture = 4 * int(np.prod(scene_map.network_intrinsics[0, :2, 2]))
    return count * sum(rows) + min(count, KEPT) * picture
