"""Locust's users of a server: good queries, and now and then what it must refuse (`serving_load`).

The environment has the address of the map as JAXRELOC_MAP (`/maps/NAME`) and the folder of queries
as JAXRELOC_QUERIES. A refusal with its own status and one sentence counts as a success.
"""

import itertools
import os
import pathlib
import struct
import zlib

from locust import HttpUser, task

MAP = os.environ["JAXRELOC_MAP"]
FOLDER = pathlib.Path(os.environ["JAXRELOC_QUERIES"])
PICTURES = [path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.is_file()]


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    """Of a PNG file."""
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


HEADER = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
BOMB = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", HEADER) + chunk(b"IDAT")


class Visitor(HttpUser):
    """Asks again as soon as it is answered."""

    def on_start(self) -> None:
        self._pictures = itertools.cycle(PICTURES)

    @task(40)
    def localize(self) -> None:
        self._ask("localize", f"{MAP}/localize", next(self._pictures), 200, "world_from_cam")

    @task(1)
    def no_picture(self) -> None:
        self._ask("no picture", f"{MAP}/localize", b"a text", 415, "error")

    @task(1)
    def bomb(self) -> None:
        self._ask("a bomb", f"{MAP}/localize", BOMB, 413, "error")

    @task(1)
    def unknown_map(self) -> None:
        self._ask("unknown map", "/maps/nothing/localize", next(self._pictures), 404, "error")

    @task(1)
    def look(self) -> None:
        self.client.get(f"{MAP}/cameras", name="cameras")

    def _ask(self, name: str, path: str, picture: bytes, status: int, field: str) -> None:
        files = {"picture": ("q.jpg", picture)}
        with self.client.post(path, files=files, name=name, catch_response=True) as response:
            if response.status_code == status and field in response.json():
                response.success()
            else:
                response.failure(f"{response.status_code}: {response.text[:200]}")
