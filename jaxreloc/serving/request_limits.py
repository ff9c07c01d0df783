"""What a request may take: bytes, pixels and time; and how one that takes more is refused."""

import asyncio
import dataclasses
import hmac
import string
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from jaxreloc.extras import extra

with extra("serve"):
    from fastapi import HTTPException

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

DRAINED = 4  # times `max_bytes` that are read and forgotten, so that the client reads the refusal


class Refused(HTTPException):
    """An answer that is an error: a status and one sentence."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None):
        super().__init__(status, sentence, headers)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Of the server.

    Attributes:
      max_bytes: of a request's body.
      max_pixels: of a picture, looked up in its header.
      body_s: from a request's first byte to the last one of its body.
      answer_s: from there to the answer, waiting included.
      max_waiting: queries that wait.
    """

    max_bytes: int = 32_000_000
    max_pixels: int = 64_000_000
    body_s: float = 30.0
    answer_s: float = 60.0
    max_waiting: int = 32


class BodyLimits:
    """An application whose requests' bodies keep to the limits."""

    def __init__(self, app: App, limits: Limits):
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            receive = _LimitedBody(receive, self._limits)
            # Starlette takes it for ASCII.
            query = urllib.parse.quote_from_bytes(scope["query_string"], safe=string.printable)
            scope["query_string"] = query.encode()
        await self._app(scope, receive, send)


class _LimitedBody:
    """The messages of one request; raises Refused as soon as the body breaks a limit."""

    def __init__(self, receive: Receive, limits: Limits):
        self._receive = receive
        self._limits = limits
        self._count = 0
        self._whole = False
        self._deadline = asyncio.get_running_loop().time() + limits.body_s

    async def __call__(self) -> Message:
        if self._whole:  # what comes now says that the client has left
            return await self._receive()
        message = await self._next()
        if self._count > self._limits.max_bytes:
            while not self._whole and self._count <= DRAINED * self._limits.max_bytes:
                await self._next()
            raise Refused(
                413,
                f"the request has more than {self._limits.max_bytes / 1e6:g} MB; "
                "send a smaller picture",
            )
        return message

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise Refused(
                408,
                f"the request took more than {self._limits.body_s:g} s to arrive; "
                "send a smaller picture, or over a faster connection",
                {"Connection": "close"},
            ) from None
        self._count += len(message.get("body", b""))
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message


def check_token(header: str | None, token: str | None) -> None:
    """Raises Refused unless the `Authorization` header is `Bearer` and the token.

    Args:
      token: None: nothing may be written.
    """
    if token is None:
        raise Refused(403, "this server changes no map; it was started without a write token")
    given = (header or "").encode("utf-8", "surrogateescape")
    if not hmac.compare_digest(given, f"Bearer {token}".encode()):
        raise Refused(
            401,
            "the write token is missing or wrong; send it as 'Authorization: Bearer TOKEN'",
            {"WWW-Authenticate": "Bearer"},
        )
