"""A headless Chromium for tests: opens a page at a width, asks it things, takes pictures. Debian: apt-get install chromium."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)


class Browser:
    """One page of a browser that is told what to do through the pipe of the DevTools protocol."""

    def __init__(self) -> None:
        if PROGRAM is None:
            pytest.skip("there is no chromium on this machine: apt-get install chromium")
        self._folder = tempfile.TemporaryDirectory()
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()

        def as_3_and_4() -> None:  # where the browser looks for them
            first, second = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(first, 3)
            os.dup2(second, 4)

        self._process = subprocess.Popen(
            [PROGRAM, *OPTIONS, f"--user-data-dir={self._folder.name}", "about:blank"],
            preexec_fn=as_3_and_4,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest, self._number, self._session = b"", 0, None
        self.messages: list[dict[str, Any]] = []  # what the page and the browser said unasked
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a method of the protocol. Raises RuntimeError with the browser's message."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.messages.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            some = os.read(self._in, 1 << 20)
            if not some:
                raise RuntimeError("chromium has ended")
            self._rest += some
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, page: Path, *, width: int, dark: bool = False) -> None:
        """Load a file as in a window (or, below 600 pixels, on a phone) of that width."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.messages.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        while not any(message.get("method") == "Page.loadEventFired" for message in self.messages):
            self.messages.append(self._read())
        self.ask("Promise.all([...document.images].map((image) => image.decode()))")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page, as JSON can hold it. Raises RuntimeError for what it throws."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", expression))
        return answer["result"].get("value")

    def errors(self) -> list[str]:
        """What the page's console has complained about since it was opened."""
        self.ask("1")  # what was said until now has arrived before the answer
        entries = [m["params"]["entry"] for m in self.messages if m.get("method") == "Log.entryAdded"]
        thrown = [
            m["params"]["exceptionDetails"] for m in self.messages if m.get("method") == "Runtime.exceptionThrown"
        ]
        return [e["text"] for e in entries if e["level"] == "error"] + [t["text"] for t in thrown]

    def picture(self, path: Path) -> Path:
        """Write the whole page as a PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        path.write_bytes(base64.b64decode(data))
        return path

    def close(self) -> None:
        """End the browser."""
        try:
            self._session = None
            self.call("Browser.close")
        except (RuntimeError, OSError):
            self._process.kill()
        self._process.wait(timeout=20)
        os.close(self._in)
        os.close(self._out)
        self._folder.cleanup()
