"""Chromium without a screen and a file server, for tests of a page; skips with the reason where one of them is missing."""

import base64
import contextlib
import functools
import http.server
import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from seg_det.export import npm

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
# WebGPU by Chromium's own software, where there is no graphics adapter.
SOFTWARE_WEBGPU = (
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
    "--use-vulkan=swiftshader",
)
NO_ADAPTER = "No available adapters."  # Chromium's own warning when a page asks for WebGPU where there is none
SHOTS = Path(__file__).parents[2] / "build" / "screenshots"  # ignored by git
DROP = """([files]) => {
  const data = new DataTransfer();
  for (const [name, text] of files) {
    data.items.add(new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], name));
  }
  for (const type of ["dragover", "drop"]) {
    document.getElementById("viewer").dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
  }
}"""


@contextlib.contextmanager
def driver():
    """What starts browsers; one a process."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    with api.sync_playwright() as started:
        yield started


@contextlib.contextmanager
def chromium(started, *options):
    """A browser with command-line ``options``."""
    browser = started.chromium.launch(executable_path=CHROMIUM, args=list(options))
    yield browser
    browser.close()


def require_runtime():
    """Skip where onnxruntime-web cannot be had."""
    try:
        npm.kept_runtime()
    except npm.RuntimeUnavailable as error:
        pytest.skip(str(error))


@contextlib.contextmanager
def served(folder, **headers):
    """The address of a server on this machine that has the files of ``folder``; it sends ``headers`` (_ for -) too."""
    handler = functools.partial(_Quiet, directory=str(folder), headers=headers)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *arguments, headers, **settings):
        self.more = headers
        super().__init__(*arguments, **settings)

    def end_headers(self):
        for name, value in self.more.items():
            self.send_header(name.replace("_", "-"), value)
        super().end_headers()

    def log_message(self, *_):
        pass


class Opened:
    """The page of an export in a tab; ``faults`` are errors and warnings of its console, ``asked`` the addresses it requested."""

    def __init__(self, browser, address, **settings):
        self.tab = browser.new_context(**settings).new_page()
        self.faults, self.asked = [], []
        self.tab.on("console", self._hear)
        self.tab.on("pageerror", lambda error: self.faults.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(address)
        self.until("['ready', 'failed'].includes(document.documentElement.dataset.state)")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tab.context.close()

    def _hear(self, line):
        if line.type in ("error", "warning") and line.text != NO_ADAPTER:
            self.faults.append(line.text)

    def until(self, condition, argument=None, seconds=120):
        """Wait until the JavaScript ``condition`` holds; the driver's own way evaluates strings, which the page forbids."""
        end = time.monotonic() + seconds
        while not self.tab.evaluate(condition, argument):
            assert time.monotonic() < end, f"{condition} did not come true; {self.text('notices')}; {self.faults}"
            time.sleep(0.05)

    @property
    def state(self):
        return self.tab.evaluate("document.documentElement.dataset.state")

    def text(self, name):
        return self.tab.locator(f"#{name}").inner_text()

    def drop(self, paths, names=None):
        """Drop image files onto the page and wait until all are done."""
        names = names or [path.name for path in paths]
        files = [[name, base64.b64encode(path.read_bytes()).decode()] for name, path in zip(names, paths, strict=True)]
        self.tab.evaluate(DROP, [files])
        self.wait_done()

    def wait_done(self):
        self.until("document.getElementById('results-box').dataset.done === 'true'", seconds=600)
        self.tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def everything(self):
        """Show whatever scores, by the keyboard."""
        self.tab.locator("#slider").focus()
        self.tab.keyboard.press("Home")

    def saved(self):
        """The predictions that the page saves."""
        with self.tab.expect_download() as download:
            self.tab.locator("#save").click()
        return json.loads(Path(download.value.path()).read_text())

    def shot(self, name):
        """A picture of the whole page in SHOTS, to be looked at."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.tab.screenshot(path=SHOTS / f"{name}.png", full_page=True)
