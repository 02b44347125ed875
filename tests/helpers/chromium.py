"""A headless Chromium that tests drive over the DevTools protocol, through a pipe and without a library."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = [
    "--headless",
    "--no-sandbox",  # Chromium refuses to run as root with it
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL without a GPU
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]


PATIENCE = 120.0
"""Seconds after which a browser that does not answer counts as broken."""

LAUNCHER = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)
"""Puts the pipe at the descriptors 3 and 4, where the browser expects it, and becomes the browser."""


def find_chromium() -> str:
    """Returns the path of a Chromium; skips the test where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium at hand: apt-get install chromium")


class Browser:
    """A running Chromium; a context manager.

    Args:
        profile: An empty folder for the browser's profile.
    """

    def __init__(self, profile: Path):
        self._profile = profile
        self._buffer = b""
        self._number = 0
        self._pages: dict[str, Page] = {}

    def __enter__(self) -> Browser:
        browser = find_chromium()
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", LAUNCHER, str(to_browser), str(from_browser)),
                *(browser, *ARGUMENTS, f"--user-data-dir={self._profile}"),
            ],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._out)
        os.close(self._in)
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def send(self, session: str | None, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Sends one command of the protocol, to a page or to the browser itself, and returns its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._receive(deadline)
            if page := self._pages.get(answer.get("sessionId", "")):
                page.note(answer.get("method", ""), answer.get("params", {}))
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the browser did not answer in time"
            chunk = os.read(self._in, 1 << 20)
            assert chunk, "the browser ended"
            self._buffer += chunk
        raw, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(raw)

    @contextmanager
    def open(
        self,
        url: str,
        width: int = 1280,
        height: int = 900,
        media: dict[str, str] | None = None,
        touch: bool = False,
    ) -> Iterator[Page]:
        """Opens a page in a window of its own.

        Args:
            url: What to open.
            width: Of the window in CSS pixels.
            height: Of the window in CSS pixels.
            media: Media features to emulate, such as {"prefers-color-scheme": "dark"}.
            touch: Whether to pretend a phone: touch events and two device pixels per CSS pixel.
        """
        context = self.send(None, "Target.createBrowserContext", {})["browserContextId"]
        target = {"url": "about:blank", "browserContextId": context}
        target_id = self.send(None, "Target.createTarget", target)["targetId"]
        attached = self.send(None, "Target.attachToTarget", {"targetId": target_id, "flatten": True})
        page = Page(self, attached["sessionId"], touch)
        self._pages[attached["sessionId"]] = page
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        features = [{"name": name, "value": value} for name, value in (media or {}).items()]
        page.call("Emulation.setEmulatedMedia", features=features)
        page.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        page.resize(width, height)
        page.call("Page.navigate", url=url)
        page.wait_for("document.readyState === 'complete'")
        try:
            yield page
        finally:
            self.send(None, "Target.disposeBrowserContext", {"browserContextId": context})


class Page:
    """One page; see `Browser.open`.

    Attributes:
        problems: Console errors and warnings, uncaught exceptions, violations of the security policy.
        requests: Everything the page asked for, data URIs apart.
    """

    def __init__(self, browser: Browser, session: str, touch: bool):
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._browser, self._session, self._touch = browser, session, touch

    def resize(self, width: int, height: int) -> None:
        """Changes the size of the window."""
        scale = 2 if self._touch else 1
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=self._touch,
        )

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends one command of the protocol and returns its result."""
        return self._browser.send(self._session, method, parameters)

    def evaluate(self, script: str) -> Any:
        """Returns the JSON value of an expression in the page; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Waits, frame by frame, until an expression in the page is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.evaluate(f"!!({condition})"):
            assert time.monotonic() < deadline, f"never true: {condition}"
            self.settle()

    def settle(self) -> None:
        """Waits until the page has drawn what it has to draw."""
        frame = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))"
        self.evaluate(frame)

    def move(self, x: float, y: float) -> None:
        """Moves the mouse to a point in CSS pixels of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.settle()

    def click(self, x: float, y: float) -> None:
        """Clicks with the left button."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.settle()

    def press(self, key: str) -> None:
        """Presses and releases a key such as "ArrowLeft"."""
        event: dict[str, Any] = {"key": key, "code": key}
        if key in ("Enter", "Escape"):  # these do something by themselves, which hangs on more than a name
            event["windowsVirtualKeyCode"] = {"Enter": 13, "Escape": 27}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)
        self.settle()

    def screenshot(self, path: Path, full: bool = False) -> None:
        """Writes a PNG of the window or of the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full)["data"]
        path.write_bytes(base64.b64decode(data))

    def note(self, method: str, parameters: dict[str, Any]) -> None:
        """Notes an event of the page."""
        if method == "Runtime.exceptionThrown":
            self.problems.append(str(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.problems.append(parameters["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.problems.append(str(parameters["args"]))
        elif method == "Page.javascriptDialogOpening":
            self.problems.append(f"a dialog opened: {parameters['message']}")
        elif method == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith("data:"):
            self.requests.append(parameters["request"]["url"])
