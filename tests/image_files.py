"""Image files for tests, sound and broken, and what the readers say of them."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from seg_det.data.images import image_size, is_turned, read_rgb, read_values, verify_image
from seg_det.errors import UserError

READERS = (read_rgb, read_values, image_size, verify_image, is_turned)
DECODERS = (read_rgb, read_values)
SENTENCE = re.compile(r"the (image|JPEG|mask) [^\n]+ (is|has|holds) [^\n]+; [^\n]+")


def sentences(path, data=None, readers=READERS):
    """What each reader says of a file with ``data``: one line each that names the file."""
    if data is not None:
        path.write_bytes(data)
    said = []
    for read in readers:
        with pytest.raises(UserError) as caught:
            read(path)
        said.append(str(caught.value))
        assert SENTENCE.fullmatch(said[-1]) and str(path) in said[-1], said[-1]
    return said


def noise(mode="RGB", size=(24, 16)):
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def smooth(seed, size=(96, 64), most=256):
    """Blocks of colours below ``most`` that run into each other, as in photos; unlike those of other seeds."""
    blocks = np.random.default_rng(seed).integers(0, most, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(*chunks, colour=2, depth=8, size=(4, 4), data=bytes(1000)):
    """A PNG with extra chunks before its pixels."""
    header = (b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    chunks = [header, *chunks, (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    body = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)
