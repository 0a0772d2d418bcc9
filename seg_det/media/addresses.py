"""Images at addresses, and what kind of thing an address gives."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import requests

from seg_det.data.images import decode_rgb
from seg_det.errors import UserError
from seg_det.media.frames import Frame, Input, made
from seg_det.media.names import Stems, file_of, shown
from seg_det.media.suffixes import PICTURES, VIDEOS
from seg_det.media.videos import Stream, Timing, VideoFile

LIVE = ("rtsp", "rtsps", "rtmp", "udp", "tcp", "srt")  # schemes of addresses without an end
MOST_BYTES = 2**30  # of an image at an address
MOST_WAITS = 12  # times timeout_s that an image may take in all


class Address:
    """An image at an address, fetched when it is read."""

    video = live = False
    length = 1

    def __init__(self, address: str, stems: Stems, timing: Timing):
        self.name, self._address, self._timing = shown(address), address, timing
        self._file = file_of(address)
        self._stem = stems.of(self._file)

    def frames(self) -> Iterator[Frame]:
        """See :class:`~seg_det.media.frames.Input`."""
        yield made(self._file, self._stem, lambda: decode_rgb(self._fetched(), self.name))

    def _fetched(self) -> bytes:
        start, parts, size = time.monotonic(), [], 0
        try:
            with requests.get(self._address, timeout=self._timing.timeout_s, stream=True) as response:
                response.raise_for_status()
                for part in response.iter_content(2**16):
                    parts.append(part)
                    size += len(part)
                    if size > MOST_BYTES or time.monotonic() - start > MOST_WAITS * self._timing.timeout_s:
                        raise UserError(f"{self.name} sends no end, so it is no image: check the address.")
                return b"".join(parts)
        except (requests.RequestException, ValueError) as error:  # ValueError: of an address that cannot be one
            raise UserError(
                f"{self.name} cannot be fetched ({_reason(error)}): check the address and the network."
            ) from error


def open_address(address: str, timing: Timing, stems: Stems) -> Input:
    """What is at an address: an image, a video with an end, or a stream. Raises UserError for one that is not read."""
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise UserError(f"{shown(address)} is no address ({error}).") from error
    if parts.scheme in LIVE:
        return Stream(address, shown(address), stems.of(file_of(address), video=True), timing)
    if parts.scheme not in ("http", "https"):
        known = ", ".join(("http", "https", *LIVE))
        raise UserError(f"addresses of {parts.scheme}:// are not read ({known} are).")
    suffix = Path(parts.path).suffix.lower()
    kind = "image/" if suffix in PICTURES else "video/" if suffix in VIDEOS else _content_type(address, timing)
    if kind.startswith("multipart/"):  # JPEG after JPEG, as many cameras send
        return Stream(address, shown(address), stems.of(file_of(address), video=True), timing)
    if kind.startswith("video/"):
        return VideoFile(address, shown(address), stems.of(file_of(address), video=True), timing)
    return Address(address, stems, timing)


def _content_type(address: str, timing: Timing) -> str:
    """What a server says that it will send; "" where it does not answer, which is said when it is read."""
    try:
        with requests.get(address, timeout=timing.timeout_s, stream=True) as response:
            return response.headers.get("Content-Type", "").lower()
    except (requests.RequestException, ValueError):
        return ""


def _reason(error: Exception) -> str:
    """Without the address, in which a password may be."""
    response = getattr(error, "response", None)
    return f"{response.status_code} {response.reason}" if response is not None else type(error).__name__
