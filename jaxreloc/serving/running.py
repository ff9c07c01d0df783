"""The server's process: its socket, its signals, and connections on which nothing comes."""

import ipaddress
import logging
import signal
import socket

from jaxreloc.extras import extra
from jaxreloc.serving.answering.map_shelf import MapShelf
from jaxreloc.serving.application import make_application
from jaxreloc.serving.request_limits import Limits
from jaxreloc.usage import UsageError

with extra("serve"):
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger("jaxreloc.serving")
HEAD_S = 10.0  # from a connection's begin, or an answer, to the next request's headers
CONNECTIONS = 512  # at once


class _PatientOnce(H11Protocol):
    """Closes connections on which no request's headers come within HEAD_S."""

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self.loop.call_later(HEAD_S, self._look, None)

    def _look(self, last) -> None:
        if self.transport.is_closing():
            return
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.cycle is last:
            self.transport.close()
            return
        self.loop.call_later(HEAD_S, self._look, self.cycle if idle else self)


def run_server(
    shelf: MapShelf,
    *,
    host: str,
    port: int,
    limits: Limits = Limits(),
    write_token: str | None = None,
    cors_origins: tuple[str, ...] = (),
) -> None:
    """Serves until SIGTERM or Ctrl-C, which let requests end.

    Args:
      port: 0 takes a free one, which the first line of the log names.

    Raises:
      UsageError: the address cannot be listened at.
    """
    application = make_application(
        shelf, limits=limits, write_token=write_token, cors_origins=cors_origins
    )
    listening = _listen(host, port)
    config = uvicorn.Config(
        application,
        loop="asyncio",
        http=_PatientOnce,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=int(limits.body_s + limits.answer_s),
    )
    # uvicorn raises the signal again once all is done; that is the end of this function.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    shown, taken = f"[{host}]" if ":" in host else host, listening.getsockname()[1]
    logger.info("serving %d map(s) at http://%s:%d", len(shelf.names()), shown, taken)
    uvicorn.Server(config).run([listening])
    logger.info("ended")


def _listen(host: str, port: int) -> socket.socket:
    try:
        is_v6 = ipaddress.ip_address(host).version == 6
    except ValueError:
        is_v6 = False  # a name
    try:
        family = socket.AF_INET6 if is_v6 else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{host}:{port}: cannot be listened at ({why}); choose another --host or --port"
        ) from error
