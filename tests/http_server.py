"""A file server on this machine that misbehaves on request: cut connections, no ranges, changed files, failures."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any


@dataclass
class Resource:
    """One file to serve, and what goes wrong: each list is used up, one item a request, before all goes well."""

    body: bytes
    etag: str | None = '"v1"'
    last_modified: str | None = None
    ranges: bool = True
    says_length: bool = True
    statuses: list[int] = field(default_factory=list)  # answered instead of the file
    cuts: list[int] = field(default_factory=list)  # bytes of body after which the connection breaks


class FileServer(ThreadingHTTPServer):
    """Serves ``files[path]`` and records the path and headers of every request in ``requests``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Resource] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.lock = Lock()
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def put(self, path: str, body: bytes, **behaviour: Any) -> str:
        """Serve ``body`` at ``path``; returns its URL."""
        self.files[path] = Resource(body, **behaviour)
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def ranges(self) -> list[str | None]:
        """The Range header of each request so far."""
        return [headers.get("Range") for _, headers in self.requests]


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        with self.server.lock:
            self.server.requests.append((path, dict(self.headers)))
            file = self.server.files.get(path)
            status = 404 if file is None else file.statuses.pop(0) if file.statuses else 200
            cut = file.cuts.pop(0) if file and file.cuts and status == 200 else None
        if status == 200:
            self._serve(file, cut)
        else:
            self._head(status, {"Content-Length": "0"})

    def _serve(self, file: Resource, cut: int | None) -> None:
        start = self._start(file)
        headers = {"ETag": file.etag, "Last-Modified": file.last_modified}
        if start is not None and start >= len(file.body):
            self._head(416, headers | {"Content-Range": f"bytes */{len(file.body)}", "Content-Length": "0"})
            return
        if start is not None:
            headers["Content-Range"] = f"bytes {start}-{len(file.body) - 1}/{len(file.body)}"
        body = file.body[start or 0 :]
        if file.says_length:
            headers["Content-Length"] = str(len(body))
        self._head(200 if start is None else 206, headers)
        self.wfile.write(body[:cut])  # HTTP/1.0: the connection closes after each answer, early if there is a cut

    def _start(self, file: Resource) -> int | None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        unchanged = self.headers.get("If-Range") in (None, file.etag, file.last_modified)
        return int(asked[1]) if asked and file.ranges and unchanged else None

    def _head(self, status: int, headers: dict[str, str | None]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass
