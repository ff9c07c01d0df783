"""Headless Chromium over the DevTools protocol, by its pipe: no driver and no package."""

import base64
import collections
import contextlib
import fcntl
import json
import os
import pathlib
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TIMEOUT_S = 60.0


def find_chromium() -> str:
    """The browser's path: $CHROMIUM, or the first of NAMES that is installed."""
    named = os.environ.get("CHROMIUM")
    found = named or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise FileNotFoundError(
            "no Chromium: install it (Debian: apt-get install chromium), or name one in $CHROMIUM"
        )
    return found


class Page:
    """One page. `problems` are what its console, its scripts and its policy complained of."""

    def __init__(self, to_browser: int, from_browser: int):
        self._to, self._from = to_browser, from_browser
        self._buffer = b""
        self._messages: collections.deque[dict] = collections.deque()
        self._last_id = 0
        self._session: str | None = None
        self.problems: list[str] = []
        self.requests: list[str] = []

    def open(self, path: pathlib.Path, *, width: int, height: int, dark: bool = False) -> None:
        """Shows a file with the network off; returns once it is loaded."""
        self.visit(path.absolute().as_uri(), width=width, height=height, dark=dark, offline=True)

    def visit(
        self, url: str, *, width: int, height: int, dark: bool = False, offline: bool = False
    ) -> None:
        """Shows an address; returns once it is loaded."""
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        attached = self._send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")
        speed = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self._send("Network.emulateNetworkConditions", offline=offline, **speed)
        self._send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])
        self._send("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        result = self._send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"])[:500])
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Until the expression is true."""
        end = time.monotonic() + TIMEOUT_S
        while not self.evaluate(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression}; problems: {self.problems}")
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Presses the mouse in the middle of an element, once the layout has come to rest."""
        box = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{box}.scrollIntoView({{block: 'center', inline: 'center'}})")
        middle = (
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"({box}.getBoundingClientRect())"
        )
        before, now = None, self.evaluate(middle)
        while now != before:
            time.sleep(0.05)
            before, now = now, self.evaluate(middle)
        self.press(*now)

    def press(self, x: float, y: float) -> None:
        """Presses the mouse at a place of the window."""
        self.move(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            event = {"x": x, "y": y, "button": "left", "clickCount": 1}
            self._send("Input.dispatchMouseEvent", type=kind, **event)

    def move(self, x: float, y: float) -> None:
        """Moves the mouse to a place of the window."""
        self._send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, selector: str = "html") -> bytes:
        """An element as a PNG."""
        clip = self.evaluate(
            f"(({{x, y, width, height}}) => ({{x: x + scrollX, y: y + scrollY, width, height}}))"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        shot = self._send(
            "Page.captureScreenshot", captureBeyondViewport=True, clip={**clip, "scale": 1}
        )
        return base64.b64decode(shot["data"])

    def _send(self, method: str, **params: Any) -> dict:
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last_id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                thrown = details.get("exception", {}).get("description", details["text"])
                self.problems.append(thrown)
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.problems.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                if params["entry"]["source"] != "rendering":  # how WebGL could be faster
                    self.problems.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])

    def _receive(self) -> dict:
        while not self._messages:
            ready, _, _ = select.select([self._from], [], [], TIMEOUT_S)
            chunk = os.read(self._from, 1 << 20) if ready else b""
            if not chunk:
                raise TimeoutError("the browser does not answer")
            *whole, self._buffer = (self._buffer + chunk).split(b"\0")
            self._messages.extend(map(json.loads, whole))
        return self._messages.popleft()


@contextlib.contextmanager
def chromium() -> Iterator[Page]:
    """A browser with an empty profile, ended afterwards."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The browser has its commands on descriptor 3 and answers on 4.
        command_read, command_write = _pipe()
        answer_read, answer_write = _pipe()
        arguments = [
            find_chromium(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-unsafe-swiftshader",  # WebGL without a GPU
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ]
        actions = [(os.POSIX_SPAWN_DUP2, command_read, 3), (os.POSIX_SPAWN_DUP2, answer_write, 4)]
        actions += [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
        pid = os.posix_spawn(
            arguments[0], arguments, os.environ, file_actions=actions, setpgroup=0
        )
        os.close(command_read)
        os.close(answer_write)
        try:
            yield Page(command_write, answer_read)
        finally:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(command_write)
            os.close(answer_read)


def _pipe() -> tuple[int, int]:
    """Of descriptors above those that the browser uses."""
    low = os.pipe()
    high = tuple(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in low)
    for fd in low:
        os.close(fd)
    return high
