"""Requests to a server of a toy map, as files: forms, an address, and the forms' type."""

import asyncio
import functools
import json
import pathlib
import tempfile
import urllib.parse

import numpy as np

from jaxreloc import files
from jaxreloc.serving.answering.map_shelf import MapShelf
from jaxreloc.serving.application import make_application
from jaxreloc.serving.request_limits import Limits
from jaxreloc.usage import UsageError
from tests.serving import toy_maps
from tests.serving.processes import form

TOKEN = "token"
CAMERA = {"fx": 30, "fy": 30, "cx": 15.5, "cy": 11.5}
LIMITS = Limits(max_bytes=1_000_000, max_pixels=1_000_000)
LIMIT = 10_000_000  # of a file
OWN_ERRORS = range(500, 600)


def make(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """Valid requests."""
    x = float(rng.uniform(1, 8))
    asked = form(toy_maps.picture(x), near="4,1,0,9", matches="false", **CAMERA)
    pose = json.dumps(np.eye(4).tolist())
    added = form(toy_maps.picture(x), image="new.png", world_from_cam=pose, **CAMERA)
    (folder / "localize.form").write_bytes(asked)
    (folder / "add.form").write_bytes(added)
    (folder / "address.txt").write_text("/maps/a/images/3.png?x=1")
    (folder / "type.txt").write_text("multipart/form-data; boundary=x")


def read(folder: pathlib.Path) -> object:
    """The answers. UsageError for a refusal; whatever else is wrong is a fault."""
    asked, added, address, kind = (
        files.read_bytes(folder / name, limit=LIMIT)
        for name in ("localize.form", "add.form", "address.txt", "type.txt")
    )
    return [
        _answer("POST", b"/maps/a/localize", kind, asked),
        _answer("POST", b"/maps/a/images", kind, added),
        _answer("GET", address, b"", b""),
    ]


@functools.lru_cache(64)  # the requests that are not broken are the same in each case
def _answer(method: str, address: bytes, kind: bytes, body: bytes) -> object:
    status, answer = _ask(method, address, kind, body)
    if status == 201:
        name = urllib.parse.quote(json.loads(answer)["image"], safe="").encode()
        assert _ask("DELETE", b"/maps/a/images/" + name, b"", b"")[0] == 200
    if status in OWN_ERRORS:
        raise AssertionError(f"{method} gave {status}: {answer[:200]!r}")
    if status >= 400:
        sentence = json.loads(answer)["error"]
        assert sentence and "\n" not in sentence and len(sentence) < 3000
        raise UsageError(f"/maps: {status}: {sentence}")
    return status, _without_times(answer)


def _without_times(answer: bytes) -> bytes:
    try:
        return json.dumps({k: v for k, v in json.loads(answer).items() if k != "total_ms"}).encode()
    except (ValueError, AttributeError):
        return answer


@functools.cache
def _server():
    """The application and its event loop, of this process."""
    toy_maps.install(setattr)
    folder = pathlib.Path(tempfile.mkdtemp(dir="."))
    toy_maps.make_map(folder / "maps" / "a")
    shelf = MapShelf(folder / "maps", toy_maps.open_localizer, max_bytes=1 << 30)
    return make_application(shelf, limits=LIMITS, write_token=TOKEN), asyncio.new_event_loop()


def _ask(method: str, address: bytes, kind: bytes, body: bytes) -> tuple[int, bytes]:
    application, loop = _server()
    raw_path, _, query = address.partition(b"?")
    headers = [(b"authorization", f"Bearer {TOKEN}".encode()), (b"content-type", kind)]
    scope = dict(type="http", asgi={"version": "3.0"}, http_version="1.1", scheme="http", state={})
    scope |= dict(method=method, root_path="", client=("a", 1), server=("b", 2), headers=headers)
    scope |= dict(raw_path=raw_path, query_string=query)
    scope |= dict(path=urllib.parse.unquote(raw_path.decode("latin-1")))
    sent = [{"type": "http.request", "body": body, "more_body": False}]
    messages = []

    async def receive():
        if sent:
            return sent.pop()
        await asyncio.Event().wait()  # the client stays

    async def send(message):
        messages.append(message)

    loop.run_until_complete(application(scope, receive, send))
    assert messages, "no answer"
    return messages[0]["status"], b"".join(x.get("body", b"") for x in messages[1:])
