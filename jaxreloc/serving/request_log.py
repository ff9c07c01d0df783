"""A line of the log for each request, with the id that its answer carries; its figures."""

import contextvars
import logging
import re
import secrets
import time
from collections.abc import Mapping

from jaxreloc.extras import extra
from jaxreloc.serving.request_limits import App, Message, Receive, Send
from jaxreloc.serving.server_metrics import ServerMetrics
from jaxreloc.usage import one_line

with extra("serve"):
    from starlette.responses import JSONResponse

logger = logging.getLogger("jaxreloc.serving")
ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
HEADER = b"x-request-id"
MAX_PATH = 200  # characters of the log
METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH")
QUIET = ("/healthz", "/readyz", "/metrics")  # asked again and again by machines

_notes: contextvars.ContextVar[list[str]] = contextvars.ContextVar("notes")


def note(text: str) -> None:
    """Adds to the line of the request that is being answered."""
    _notes.get([]).append(text)


def error_response(
    scope: Message, status: int, sentence: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An error as JSON, which also goes into the log."""
    sentence = one_line(sentence)
    note(sentence)
    content = {"error": sentence, "request": scope.get("request_id", "")}
    return JSONResponse(content, status, dict(headers or {}))


class RequestLog:
    """An application that says what became of each request."""

    def __init__(self, app: App, metrics: ServerMetrics):
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 0
        scope["request_id"] = _request_id(scope)
        notes: list[str] = []
        _notes.set(notes)

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (HEADER, scope["request_id"].encode()),
                ]
            await send(message)

        try:
            await self._app(scope, receive, named)
        except Exception:
            logger.exception("request %s met an unforeseen error", scope["request_id"])
        seconds = time.perf_counter() - begin
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.request(route, method, status, seconds)
        logger.log(
            logging.DEBUG if route in QUIET else logging.INFO,
            "request %s: %s %s gave %d in %.0f ms%s",
            *(scope["request_id"], method, _path(scope), status, 1e3 * seconds),
            f": {'; '.join(notes)}" if notes else "",
        )


def _request_id(scope: Message) -> str:
    """The client's, if it is a plain word, or a new one."""
    for name, value in scope["headers"]:
        if name == HEADER and ID.fullmatch(value):
            return value.decode()
    return secrets.token_hex(6)


def _path(scope: Message) -> str:
    """As it was sent: percent-encoded, so that it is one word of ASCII."""
    raw = scope.get("raw_path") or scope["path"].encode("utf-8", "backslashreplace")
    text = raw.decode("ascii", "backslashreplace")
    return "".join(c if 32 < ord(c) < 127 else "?" for c in text)[:MAX_PATH]
