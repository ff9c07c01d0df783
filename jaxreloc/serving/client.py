"""`Client`: asks a server, from a program that needs neither JAX nor the extra `serve`."""

import http.client
import io
import json
import math
import os
import pathlib
import secrets
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from jaxreloc.files import read_bytes
from jaxreloc.formats.localized_poses import LocalizedPose, from_json_fields
from jaxreloc.usage import UsageError, one_line

MAX_BYTES = 1 << 30  # of a picture
BUSY = (429, 503)  # answers with Retry-After
MODEL_HEADER = "serve_multiplexed_model_id"  # by which Ray Serve finds who has a map open
ANSWERED = "X-Request-ID"  # of the application's own answers; a proxy before it sends none
# A connection that a server had taken, and that ended before the answer did.
LOST = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, http.client.IncompleteRead)
PROXY_PAUSE_S = 0.5
MIN_PAUSE_S = 0.1


class Client:
    """A server of maps (`jaxreloc serve`).

      found = jaxreloc.Client("http://127.0.0.1:8000").localize("picture.jpg")
      if found.success:
          print(found.world_from_cam, found.confidence)

    Args:
      url: the server's.
      timeout_s: of a call; a server that is busy is asked again until then.
      write_token: lets `add_image` and `remove_image` change maps.
    """

    def __init__(self, url: str, *, timeout_s: float = 120.0, write_token: str | None = None):
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise UsageError(f"{url!r}: is no server's address; give one such as http://HOST:8000")
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._headers = {"Authorization": f"Bearer {write_token}"} if write_token else {}

    def maps(self) -> list[str]:
        """The names of the server's maps."""
        return [entry["name"] for entry in self._ask("GET", "/maps")]

    def localize(
        self,
        picture: str | os.PathLike | bytes | UInt8[np.ndarray, "h w 3"],
        *,
        map: str | None = None,
        intrinsics: Float[np.ndarray, "3 3"] | None = None,
        near: Sequence[float] | None = None,
    ) -> LocalizedPose:
        """Where a picture was taken.

        Args:
          picture: a file, its bytes, or an RGB image, which is sent without loss.
          map: its name; None: the server has one map only.
          intrinsics: of the upright picture, in pixels; None: the focal length is found along with
            the pose, from EXIF's or else the map's.
          near: x, y, z, radius: only images taken there are neighbours.

        Raises:
          UsageError: the server cannot be reached, or refuses the request; it says why.
        """
        fields = {} if near is None else {"near": ",".join(_digits(x) for x in near)}
        return from_json_fields(
            self._send_picture("localize", picture, map, intrinsics, fields)
        )

    def add_image(
        self,
        picture: str | os.PathLike | bytes | UInt8[np.ndarray, "h w 3"],
        world_from_cam: Float[np.ndarray, "4 4"],
        *,
        name: str | None = None,
        map: str | None = None,
        intrinsics: Float[np.ndarray, "3 3"] | None = None,
    ) -> int:
        """Adds a picture to a map; returns how many images it has then.

        Args:
          name: of the image; None: the file's.

        Raises:
          UsageError: see `localize`.
        """
        fields = {"world_from_cam": json.dumps(np.asarray(world_from_cam, float).tolist())}
        if name is not None:
            fields["image"] = name
        return self._send_picture("images", picture, map, intrinsics, fields)["images"]

    def remove_image(self, name: str, *, map: str | None = None) -> int:
        """Takes an image out of a map; returns how many images are left.

        Raises:
          UsageError: see `localize`.
        """
        path = f"/maps/{_quoted(map or self._only_map())}/images/{_quoted(name)}"
        return self._ask("DELETE", path)["images"]

    def _send_picture(
        self,
        what: str,
        picture: str | os.PathLike | bytes | np.ndarray,
        map: str | None,
        intrinsics: np.ndarray | None,
        fields: Mapping[str, str],
    ) -> dict[str, Any]:
        name, content = _named(picture)
        if intrinsics is not None:
            K = np.asarray(intrinsics, float)
            if K.shape != (3, 3):
                raise UsageError(f"intrinsics have shape {K.shape}; give a 3x3 matrix")
            values = {"fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
            fields = {**fields, **{key: _digits(x) for key, x in values.items()}}
        body, kind = _form(fields, name, content)
        map = map or self._only_map()
        headers = {"Content-Type": kind, MODEL_HEADER: _quoted(map)}
        return self._ask(
            "POST", f"/maps/{_quoted(map)}/{what}", body, headers, again=what == "localize"
        )

    def _only_map(self) -> str:
        names = self.maps()
        if len(names) != 1:
            raise UsageError(f"{self._url}: has the maps {', '.join(names)}; name one by map=")
        return names[0]

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] = {},
        again: bool | None = None,
    ) -> Any:
        """
        Args:
          again: what a server that was lost did not answer may be asked again, as it changes
            nothing; None: as the method says.
        """
        again = method == "GET" if again is None else again
        end = time.monotonic() + self._timeout_s
        while True:
            request = urllib.request.Request(
                self._url + path, body, {**self._headers, **headers}, method=method
            )
            try:
                left = max(0.1, end - time.monotonic())
                with urllib.request.urlopen(request, timeout=left) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                pause = _pause_s(error, again)
                if pause is None or time.monotonic() + pause > end:
                    raise UsageError(f"{self._url}{path}: {_reason(error)}") from error
                time.sleep(pause)
            except (OSError, ValueError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                if again and isinstance(reason, LOST) and time.monotonic() + PROXY_PAUSE_S < end:
                    time.sleep(PROXY_PAUSE_S)
                    continue
                raise UsageError(
                    f"{self._url}{path}: no answer ({one_line(reason)}); check the address, and "
                    "that the server runs"
                ) from error


def _digits(number: float) -> str:
    """All of a number."""
    return repr(float(number))


def _pause_s(error: urllib.error.HTTPError, again: bool) -> float | None:
    """How long a busy server asks to wait; None where asking again does not help."""
    if error.code >= 500 and ANSWERED not in error.headers:
        return PROXY_PAUSE_S if again else None
    if error.code not in BUSY:
        return None
    try:
        return min(max(MIN_PAUSE_S, float(error.headers.get("Retry-After", ""))), math.inf)
    except ValueError:
        return None


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return one_line(json.load(error)["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{error.code} {one_line(error.reason)}"


def _named(picture: str | os.PathLike | bytes | np.ndarray) -> tuple[str, bytes]:
    """The picture as a file, and the name of it."""
    if isinstance(picture, bytes):
        return "picture", picture
    if isinstance(picture, np.ndarray):
        file = io.BytesIO()
        try:
            Image.fromarray(picture, "RGB").save(file, "png", compress_level=1)
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"a picture is uint8 of [h, w, 3], not {picture.dtype} of {picture.shape}"
            ) from error
        return "picture.png", file.getvalue()
    return pathlib.Path(picture).name, read_bytes(picture, limit=MAX_BYTES)


def _form(fields: Mapping[str, str], name: str, content: bytes) -> tuple[bytes, str]:
    """A multipart body, and its type (RFC 7578)."""
    boundary = secrets.token_hex(16)
    parts = [
        f'Content-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    file_name = "".join("%22" if c == '"' else c if c.isprintable() else "_" for c in name)
    head = f'Content-Disposition: form-data; name="picture"; filename="{file_name}"\r\n'
    head += "Content-Type: application/octet-stream\r\n\r\n"
    parts.append(head.encode("utf-8", "replace") + content + b"\r\n")
    start = f"--{boundary}\r\n".encode()
    body = b"".join(start + part for part in parts) + f"--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")
