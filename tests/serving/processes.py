"""Servers in processes of their own, and what a test says to them by hand."""

import contextlib
import dataclasses
import io
import pathlib
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator

from PIL import Image

from tests.scripts import ROOT

TIMEOUT_S = 60
ADDRESS = re.compile(r"serving \d+ map\(s\) at (http://[^ ]+:(\d+))\n")


@dataclasses.dataclass
class Running:
    """A server; `log` grows."""

    process: subprocess.Popen
    url: str
    port: int
    log: list[str]

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=TIMEOUT_S) as answer:
            return answer.read()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)


@contextlib.contextmanager
def running(*arguments) -> Iterator[Running]:
    """Python with these arguments, once it says where it serves; killed if it is still there."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    log: list[str] = []
    found = threading.Event()

    def read() -> None:
        for line in process.stderr:
            log.append(line)
            if ADDRESS.match(line):
                found.set()
        found.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert found.wait(TIMEOUT_S), "does not start"
        address = next((m for m in map(ADDRESS.match, log) if m), None)
        assert address, "".join(log)
        yield Running(process, address[1], int(address[2]), log)
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()


def form(picture, boundary="x", **fields) -> bytes:
    """A multipart body with the picture and the fields."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    head = 'Content-Disposition: form-data; name="{}"'
    parts = [(head.format(name), str(value).encode()) for name, value in fields.items()]
    parts.append((head.format("picture") + '; filename="q.png"', file.getvalue()))
    body = b"".join(
        f"--{boundary}\r\n{header}\r\n\r\n".encode() + content + b"\r\n"
        for header, content in parts
    )
    return body + f"--{boundary}--\r\n".encode()


def post(path: str, body: bytes, length: int | None = None, boundary="x") -> bytes:
    """A request as bytes."""
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {length or len(body)}"]
    lines += [f"Content-Type: multipart/form-data; boundary={boundary}", "Connection: close"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def read_all(connection: socket.socket) -> bytes:
    """Until the server closes."""
    chunks = []
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(1 << 16):
            chunks.append(chunk)
    return b"".join(chunks)


def folder_of_maps(folder: pathlib.Path) -> pathlib.Path:
    """With one toy map, `a`."""
    from tests.serving import toy_maps

    toy_maps.make_map(folder / "maps" / "a")
    return folder
