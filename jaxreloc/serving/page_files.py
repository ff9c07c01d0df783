"""The page at `/`, and plotly.js, which it draws with; all of it comes from this server."""

import functools
import gzip
import pathlib

from jaxreloc.extras import extra

with extra("serve"):
    from fastapi import FastAPI, Request, Response
    from plotly.offline import get_plotlyjs

_FOLDER = pathlib.Path(__file__).parent / "page"
# Plotly writes styles into its elements. A picture that was chosen is shown as a blob.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}


def add_routes(api: FastAPI) -> None:
    """The page's files; they are no part of the described interface."""
    for path, (name, kind) in FILES.items():
        api.add_api_route(path, _sender(name, kind), include_in_schema=False)
    api.add_api_route("/plotly.js", _plotly, include_in_schema=False)


def _sender(name: str, kind: str):
    def send() -> Response:
        content = (_FOLDER / name).read_bytes()
        headers = HEADERS | {"Cache-Control": "no-cache"}
        return Response(content, media_type=kind, headers=headers)

    return send


def _plotly(request: Request) -> Response:
    headers = {"Cache-Control": "max-age=86400", "Vary": "Accept-Encoding"}
    zipped = "gzip" in request.headers.get("accept-encoding", "")
    if zipped:
        headers["Content-Encoding"] = "gzip"
    content = _zipped_plotly() if zipped else get_plotlyjs().encode()
    return Response(
        content, media_type="text/javascript; charset=utf-8", headers=HEADERS | headers
    )


@functools.cache
def _zipped_plotly() -> bytes:
    return gzip.compress(get_plotlyjs().encode(), 6)
