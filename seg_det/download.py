"""Files from the network: resumed, checked, and put in place only when whole.

Bytes gather in ``NAME.part`` beside the final name, whose file is replaced in one step once the checks have held.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from requests.adapters import HTTPAdapter, Retry

from seg_det.errors import UserError
from seg_det.progress import made

if TYPE_CHECKING:
    from tqdm import tqdm

CHUNK = 1 << 16  # bytes; a cut connection costs the chunk it falls into
READ_TIMEOUT = 60.0  # seconds without a byte
BACKOFF = 0.5  # seconds, doubled from one try to the next
PASSING_FAILURES = (429, 500, 502, 503, 504)


class DownloadError(UserError):
    """A file that did not arrive; ``url`` and ``reason`` alone serve messages that name several sources."""

    def __init__(self, url: str, path: Path, reason: str) -> None:
        super().__init__(f"cannot download {url}: {reason}; if you have the file from elsewhere, put it at {path}")
        self.url, self.reason = url, reason


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    progress: bool = True,
    retries: int = 4,
    connect_timeout: float = 10.0,
) -> Path:
    """Bring ``url`` to ``path``, unless a file that holds the given checks lies there already (then: no request).

    ``size`` in bytes, ``connect_timeout`` in seconds; ``retries`` counts failures in a row that brought nothing new.
    An interrupted download goes on where it ended if the remote file is provably the same (If-Range). Several processes
    may ask for one file at once: one fetches, the others wait for it.
    Raises DownloadError: no connection, an HTTP error, content that fails a check, a folder that cannot be written.
    """
    expected = _Expected(size, sha256, md5)
    part = _Part(url, path)
    try:
        if expected.held_by(path, progress):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(path):
            if expected.held_by(path, progress):
                return path
            _fetch(part, size, retries, connect_timeout, progress)
            if fault := expected.fault(part.bytes, progress):
                part.remove()
                raise DownloadError(url, path, f"wrong content for {path.name}: {fault}")
            part.finish()
    except requests.RequestException as error:
        raise DownloadError(url, path, _reason(error, url, connect_timeout)) from error
    except OSError as error:
        raise DownloadError(url, path, f"cannot write {error.filename or part.bytes}: {error.strerror}") from error
    return path


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """One process at a time works on ``path``; the others wait. The lock lies beside it as ``NAME.lock``."""
    lock = Path(f"{path}.lock")
    with FileLock(lock):
        yield
        # The work is done by now, so whoever still waits on this file, or locks a new one, finds nothing left to do.
        # Windows cannot remove an open file: there an empty one stays.
        with suppress(PermissionError):
            lock.unlink(missing_ok=True)


def byte_bar(name: str, whole: int | None, *, done: int = 0, progress: bool = True) -> tqdm[Any]:
    """A progress bar that counts bytes and shows itself only where the work takes longer than two seconds."""
    return made(
        desc=name,
        total=whole,
        initial=done,
        disable=not progress,
        delay=2,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
    )


@dataclass(frozen=True)
class _Expected:
    """What is known beforehand about a file; the cheapest check comes first."""

    size: int | None
    sha256: str | None
    md5: str | None

    def fault(self, path: Path, progress: bool) -> str | None:
        if self.size is not None and (got := path.stat().st_size) != self.size:
            return f"expected {self.size} bytes, got {got}"
        for algorithm, want in (("sha256", self.sha256), ("md5", self.md5)):
            if want is not None and (digest := _digest(path, algorithm, progress)) != want.lower():
                return f"expected {algorithm} {want}, got {digest}"
        return None

    def held_by(self, path: Path, progress: bool) -> bool:
        return path.is_file() and self.fault(path, progress) is None


class _Part:
    """``NAME.part`` and a side file that ties its bytes to the remote file they came from."""

    def __init__(self, url: str, path: Path) -> None:
        self.url, self.path = url, path
        self.bytes = path.with_name(f"{path.name}.part")
        self.origin = path.with_name(f"{path.name}.part.json")

    @property
    def size(self) -> int:
        return self.bytes.stat().st_size if self.bytes.exists() else 0

    def validator(self) -> str | None:
        """What If-Range takes; None if there is nothing to go on from, or no way to know that it fits."""
        with suppress(OSError, ValueError):
            origin = json.loads(self.origin.read_text(encoding="utf-8"))
            return origin["validator"] if self.size and origin["url"] == self.url else None
        return None

    def begin(self, headers: requests.structures.CaseInsensitiveDict[str]) -> None:
        etag = headers.get("ETag", "")
        # RFC 9110 13.1.5: If-Range compares strongly, so a weak entity tag cannot stand in it
        validator = etag if etag.startswith('"') else headers.get("Last-Modified")
        self.bytes.write_bytes(b"")
        self.origin.write_text(json.dumps({"url": self.url, "validator": validator}), encoding="utf-8")

    def remove(self) -> None:
        self.bytes.unlink(missing_ok=True)
        self.origin.unlink(missing_ok=True)

    def finish(self) -> None:
        self.bytes.replace(self.path)
        self.origin.unlink(missing_ok=True)


def _fetch(part: _Part, size: int | None, retries: int, connect_timeout: float, progress: bool) -> None:
    most, failures = part.size, 0
    # An unreachable host is unreachable now: one more try, while a busy server gets them all.
    policy = Retry(
        total=retries,
        connect=min(retries, 1),
        backoff_factor=BACKOFF,
        status_forcelist=PASSING_FAILURES,
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=policy))
        session.mount("https://", HTTPAdapter(max_retries=policy))
        while not _receive(session, part, size, connect_timeout, progress):
            failures = 0 if part.size > most else failures + 1
            most = max(most, part.size)
            if failures > retries:
                raise DownloadError(part.url, part.path, f"the connection broke off again and again, at {most} bytes")
            time.sleep(BACKOFF * 2**failures if failures else 0)


def _receive(session: requests.Session, part: _Part, size: int | None, connect_timeout: float, progress: bool) -> bool:
    """Ask for what the part lacks and append it; False if the connection was cut or the part had to be dropped."""
    headers = {"Accept-Encoding": "identity"}
    if validator := part.validator():
        headers |= {"Range": f"bytes={part.size}-", "If-Range": validator}
    timeout = (connect_timeout, READ_TIMEOUT)
    with session.get(part.url, headers=headers, stream=True, timeout=timeout) as response:
        if response.status_code in (206, 416):
            start, whole = _content_range(response)
            if response.status_code == 416 and part.size == whole:
                return True
            if start != part.size:
                part.remove()
                return False
        else:
            response.raise_for_status()
            length = response.headers.get("Content-Length")
            start, whole = 0, int(length) if length else None
        if None not in (size, whole) and size != whole:
            part.remove()
            raise DownloadError(part.url, part.path, f"the server has {whole} bytes, expected {size}")
        if start == 0:
            part.begin(response.headers)
        return _append(response, part, whole, progress) and whole in (None, part.size)


def _append(response: requests.Response, part: _Part, whole: int | None, progress: bool) -> bool:
    bar = byte_bar(part.path.name, whole, done=part.size, progress=progress)
    with part.bytes.open("ab") as file, bar:
        try:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError):
            return False
    return True


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and length of the whole file from ``Content-Range: bytes 5-9/10`` or ``bytes */10``."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", response.headers.get("Content-Range", ""))
    start, whole = (None if part is None else int(part) for part in (match.groups() if match else (None, None)))
    return start, whole


def _digest(path: Path, algorithm: str, progress: bool) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file, byte_bar(f"check {path.name}", path.stat().st_size, progress=progress) as bar:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def _reason(error: requests.RequestException, url: str, connect_timeout: float) -> str:
    host = urlsplit(url).hostname
    if isinstance(error, requests.HTTPError):
        return f"{host} answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection to {host} within {connect_timeout:g} s"
    if isinstance(error, requests.Timeout):
        return f"{host} sent nothing for {READ_TIMEOUT:g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return f"the certificate of {host} was not accepted"
    if isinstance(error, requests.ConnectionError):
        return f"no connection to {host}"
    return str(error)
