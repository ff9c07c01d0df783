"""A server of toy maps in a process of its own: `python -m tests.serving.toy_server FOLDER`.

The folder may have a file `held`: queries wait until it is gone, and `begun` says that one does.
"""

import logging
import pathlib
import sys
import time

from jaxreloc import interrupts
from jaxreloc.serving import running
from jaxreloc.serving.answering.map_shelf import MapShelf
from jaxreloc.serving.request_limits import Limits
from tests.serving import toy_maps

LIMITS = Limits(max_bytes=200_000, max_pixels=100_000, body_s=2.0, max_waiting=16)
HEAD_S = 1.0
TOKEN = "a-token"


class HeldLocalizer(toy_maps.ToyLocalizer):
    """Waits as long as there is a file."""

    folder = pathlib.Path()

    def __call__(self, *arguments, **options):
        while (self.folder / "held").exists():
            (self.folder / "begun").touch()
            time.sleep(0.01)
        return super().__call__(*arguments, **options)


def main(folder: pathlib.Path) -> None:
    interrupts.install()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    toy_maps.install(setattr)
    HeldLocalizer.folder = folder
    running.HEAD_S = HEAD_S

    def opening(path):
        return HeldLocalizer(toy_maps.SceneMap.open(path))

    shelf = MapShelf(folder / "maps", opening, max_bytes=1 << 30)
    running.run_server(shelf, host="127.0.0.1", port=0, limits=LIMITS, write_token=TOKEN)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
