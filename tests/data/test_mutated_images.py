"""Sound image files of every format with some bytes changed: whatever a decoder raises ends in one sentence."""

import random
import struct
import warnings
import zlib

from image_files import READERS, encoded, noise
from PIL import Image

from seg_det.data.image_files import LIMIT
from seg_det.errors import UserError


def valid_files():
    still = noise()
    exif = Image.Exif()
    exif[274] = 6
    options = {"exif": exif}
    yield from (
        (f"{mode}.png", encoded(noise(mode), "PNG", **options)) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")
    )
    yield from ((f"{c}.tif", encoded(still, "TIFF", compression=c)) for c in ("raw", "tiff_lzw", "jpeg", "packbits"))
    yield from ((f"{mode}.bmp", encoded(noise(mode), "BMP")) for mode in ("1", "P", "RGB"))
    yield from ((f"{p}.jpg", encoded(still, "JPEG", progressive=p, **options)) for p in (False, True))
    yield "cmyk.jpg", encoded(noise("CMYK"), "JPEG", **options)
    yield "p.gif", encoded(noise("P"), "GIF", transparency=3)
    yield "lossy.webp", encoded(still, "WEBP", **options)
    yield "lossless.webp", encoded(noise("RGBA"), "WEBP", lossless=True)


def mutated(data, chance):
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        place = chance.randrange(min(len(data), chance.choice((60, 200, len(data)))))
        change = chance.choice((b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", bytes([chance.randrange(256)])))
        if chance.random() < 0.2:
            del data[place : place + chance.randrange(1, 30)]
        else:
            data[place : place + len(change)] = change
        if not data:
            return b"x"
    return bytes(data)


def with_sums(data):
    """A PNG with its chunks' checksums put right, so that a change is not refused for them."""
    data, place = bytearray(data), 8
    while place + 12 <= len(data) and place + 12 + (size := struct.unpack_from(">I", data, place)[0]) <= len(data):
        struct.pack_into(">I", data, place + 8 + size, zlib.crc32(bytes(data[place + 4 : place + 8 + size])))
        place += 12 + size
    return bytes(data)


def test_no_damage_ends_in_another_error(tmp_path, monkeypatch):
    chance, files, refused = random.Random(0), list(valid_files()), 0
    monkeypatch.setenv(LIMIT, str(10**6))
    for turn in range(1000):
        name, data = files[turn % len(files)]
        path = tmp_path / name
        path.write_bytes(with_sums(found) if (found := mutated(data, chance))[:4] == b"\x89PNG" else found)
        sizes = {}
        for read in READERS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    sizes[read.__name__] = read(path)
                except UserError as error:
                    refused += 1
                    assert "\n" not in str(error) and str(path) in str(error)
        if {"read_rgb", "image_size"} <= set(sizes):
            assert sizes["read_rgb"].shape[:2] == sizes["image_size"], name
    assert refused > 500
