"""Files that only call themselves images, images that lie, and images of several pictures: one sentence, and no other program."""

import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import DECODERS, READERS, SENTENCE, encoded, noise, png, sentences
from PIL import EpsImagePlugin, Image

from seg_det.data.image_files import FORMATS
from seg_det.data.images import image_size, read_rgb, read_values
from seg_det.data.jpeg import read_header
from seg_det.errors import UserError

ROOT = Path(__file__).parents[2]
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n(/tmp/written) (w) file closefile\nshowpage\n"


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.eps"])
def test_postscript_is_never_run(tmp_path, monkeypatch, name):
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    for data in (
        POSTSCRIPT,
        struct.pack("<4sIIIIIIH", b"\xc5\xd0\xd3\xc6", 30, len(POSTSCRIPT), 0, 0, 0, 0, 0) + POSTSCRIPT,
    ):
        for said in sentences(tmp_path / name, data):
            assert "is PostScript (EPS) inside, which is not read (JPEG, PNG, BMP, WebP, TIFF and GIF are)" in said
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (b"DDS |\0\0\0\x07\x10\0\0", "DDS"),
        (b"8BPS\0\x01", "Photoshop"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x20ftypavis\0\0\0\0", "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    ],
)
def test_other_formats_are_named(tmp_path, data, name):
    for said in sentences(tmp_path / "photo.jpg", data + bytes(200)):
        assert f"photo.jpg is {name} inside, which is not read" in said and said.endswith(
            "or take it out of the data set"
        )


@pytest.mark.parametrize(
    ("kind", "name"), [("AVIF", "AVIF"), ("DDS", "DDS"), ("PDF", "PDF"), ("JPEG2000", "JPEG 2000")]
)
def test_sound_files_of_other_formats_are_not_read(tmp_path, kind, name):
    try:
        data = encoded(noise(), kind)
    except (KeyError, OSError, ValueError):
        pytest.skip(f"this Pillow writes no {kind}")
    for said in sentences(tmp_path / "photo.png", data):
        assert f"photo.png is {name} inside" in said


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PPM", "SGI", "PCX", "ICNS", "MSP", "IM"])
def test_what_pillow_could_read_besides_is_no_known_format(tmp_path, kind):
    data = encoded(noise("1" if kind == "MSP" else "RGB", (32, 32)), kind)
    for said in sentences(tmp_path / "photo.png", data):
        assert "photo.png is broken (no known image format); JPEG, PNG, BMP, WebP, TIFF and GIF are read" in said


@pytest.mark.parametrize("rest", [b"\xe0ftypavif\0\0\0\0", b"\x00BM", b"\xd8\xff\x4f\xff\x51"])
def test_a_jpeg_s_signature_does_not_open_other_decoders(tmp_path, rest):
    sentences(tmp_path / "x.jpg", b"\xff\xd8\xff" + rest + bytes(300) + b"\xff\xd9")


def test_every_opening_of_an_image_names_the_formats():
    found = 0
    for path in [*ROOT.glob("seg_det/**/*.py"), *ROOT.glob("datasets/*.py"), *ROOT.glob("*.py")]:
        for line in path.read_text().splitlines():
            assert not re.search(r"\b(imread|imdecodemulti|imreadmulti)\(", line), path
            if "Image.open(" in line:
                found += 1
                assert "formats=" in line, f"{path}: {line}"
    assert found == 3  # data/image_files.py, masks within labelme files, and the program that export writes
    assert FORMATS == ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
    listed = ", ".join(f'"{name}"' for name in FORMATS)
    assert f"formats=[{listed}]" in (ROOT / "seg_det" / "export" / "runner.py").read_text()


@pytest.mark.parametrize(("kind", "name"), [("PNG", "x.png"), ("WEBP", "x.webp"), ("GIF", "x.gif"), ("TIFF", "x.tif")])
def test_several_pictures_in_one_file(tmp_path, kind, name):
    frames = [noise().rotate(angle) for angle in (0, 90, 180)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    for said in sentences(tmp_path / name, data):
        assert f"{name} holds 3 pictures, and which of them is meant cannot be known; save that one as a file" in said
    (tmp_path / name).write_bytes(encoded(frames[0], kind, save_all=True))
    assert image_size(tmp_path / name) == (16, 24)


def test_pictures_that_only_go_with_another(tmp_path):
    still = noise()
    (tmp_path / "phone.jpg").write_bytes(encoded(still, "MPO", save_all=True, append_images=[still.rotate(180)]))
    assert (read_rgb(tmp_path / "phone.jpg") != 0).any() and image_size(tmp_path / "phone.jpg") == (16, 24)
    small = still.resize((12, 8))
    small.encoderinfo = {"tiffinfo": {254: 1}}  # NewSubfileType: a smaller copy
    still.save(tmp_path / "pyramid.tif", save_all=True, append_images=[small])
    with Image.open(tmp_path / "pyramid.tif") as image:
        assert image.n_frames == 2
    assert (read_rgb(tmp_path / "pyramid.tif") == np.asarray(still)).all()


@pytest.mark.parametrize(
    "data",
    [
        png(colour=3),  # without a palette
        png((b"PLTE", b""), colour=3),
        png((b"PLTE", bytes(4)), colour=3),
        png((b"PLTE", bytes(3 * 300)), colour=3),
        png(colour=5),
        png(depth=7),
        png(size=(0, 4)),
        png(data=b""),
        encoded(noise("P"), "BMP")[:60],
        encoded(noise("P"), "GIF")[:20],
        encoded(noise("P"), "TIFF", compression="tiff_lzw").replace(b"\x40\x01\x03\0", b"\x40\x01\x03\xff"),
    ],
)
def test_broken_palettes_and_headers_are_read_or_named(tmp_path, data):
    (path := tmp_path / "x.png").write_bytes(data)
    for read in READERS:
        try:
            read(path)
        except UserError as error:
            assert SENTENCE.fullmatch(str(error)), error


@pytest.mark.parametrize("data", [png(colour=5), png(depth=7), png(data=b""), png((b"PLTE", bytes(900)), colour=3)])
def test_what_cannot_be_decoded_is_named(tmp_path, data):
    sentences(tmp_path / "x.png", data, DECODERS)


@pytest.mark.parametrize(("palette", "colours"), [(b"", 0), (bytes(4), 1), (bytes(9), 3)])
def test_a_pixel_outside_of_the_palette_is_named(tmp_path, palette, colours):
    (path := tmp_path / "x.png").write_bytes(png((b"PLTE", palette), colour=3, data=bytes([0, 1, 2, 3, 9] * 4)))
    for read in (read_rgb, lambda file: read_values(file, colours=True)):
        with pytest.raises(
            UserError, match=rf"x\.png is broken \(its palette has {colours} colours and a pixel has number 9"
        ):
            read(path)
    assert read_values(path).max() == 9  # what is stored needs no palette


BOMB = zlib.compress(bytes(80_000_000), 9)


@pytest.mark.parametrize(
    "chunk",
    [
        (b"zTXt", b"Comment\0\0" + BOMB),
        (b"iTXt", b"Comment\0\x01\0\0\0" + BOMB),
        (b"iCCP", b"profile\0\0" + BOMB),
    ],
    ids=lambda chunk: chunk[0].decode(),
)
def test_text_that_grows_when_it_is_unpacked(tmp_path, chunk):
    for said in sentences(tmp_path / "x.png", png(chunk)):
        assert "x.png is broken (" in said and "too large" in said.lower()


def test_a_jpeg_cannot_hide_its_size(tmp_path):
    big, small = (b"\xff\xc0\0\x11\x08" + struct.pack(">HH", side, side) + bytes(12) for side in (60000, 16))
    decoys = (  # what libjpeg passes over, with a small frame where a careless reader would look next
        b"\xff\xd0" + big + bytes(0xFFC0 - len(big)) + small,
        b"\xff\x01" + big + small,
        b"rubbish" + big + small,
        b"\xff\x00\xff\xff" + big + small,
        b"\xff\xe0\0\0" + big + small,
    )
    for decoy in decoys:
        assert read_header(b"\xff\xd8" + decoy).size == (60000, 60000)
        for said in sentences(tmp_path / "x.jpg", b"\xff\xd8" + b"\xff\xe1\0\x04ab" + decoy + b"\xff\xd9", (read_rgb,)):
            assert "has 60000 x 60000 pixels" in said
    for said in sentences(tmp_path / "x.jpg", b"\xff\xd8\xff\xda" + big + b"\xff\xd9", (read_rgb,)):
        assert "x.jpg is broken (a JPEG without a frame)" in said
