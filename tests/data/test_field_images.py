"""Image files as people's tools write them: turned by rare metadata, of more than 8 bits, damaged inside, of other formats."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from image_files import encoded
from PIL import Image, ImageOps, PngImagePlugin

from seg_det.data.images import damage, decode_rgb, image_size, is_turned, read_rgb, read_values, verify_image
from seg_det.errors import UserError

WIDE = 40, 24  # of the stored image
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation%s/></x:xmpmeta>'


def stored(mode="RGB"):
    """40 x 24, with a white patch in its upper left quarter."""
    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[:12, :20] = 255
    return Image.fromarray(pixels).convert(mode)


def exif(orientation, order=">", kind=3):
    """EXIF data with the orientation as a BYTE (1), a SHORT (3) or a LONG (4)."""
    value = struct.pack(order + {1: "B3x", 3: "H2x", 4: "I"}[kind], orientation)
    mark = b"MM\0*" if order == ">" else b"II*\0"
    entry = struct.pack(order + "HHI", 274, kind, 1) + value
    return b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


def raw_profile(orientation):
    digits = exif(orientation).hex()
    return f"\nexif\n      {len(digits) // 2}\n{digits}\n"


def with_text(key, value, zipped=False):
    info = PngImagePlugin.PngInfo()
    info.add_text(key, value, zip=zipped)
    return encoded(stored(), "PNG", pnginfo=info)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def behind(kind, content):
    """A PNG with a chunk between the pixels and the end, where ExifTool puts it."""
    data = encoded(stored(), "PNG")
    return data[:-12] + chunk(kind, content) + data[-12:]


def tiff(orientation, image=None, **options):
    tags = Image.Exif()
    tags[274] = orientation
    return encoded(image or stored(), "TIFF", exif=tags, **options)


def wide_tiff(orientation):
    """16 bits a channel, which Pillow does not write."""
    data = cv2.imencode(".tif", np.asarray(stored()).astype(np.uint16) * 257)[1].tobytes()
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    entries = [data[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
    entries.append(struct.pack(order + "HHIHxx", 274, 3, 1, orientation))
    entries.sort(key=lambda entry: struct.unpack_from(order + "H", entry)[0])
    head = data[:4] + struct.pack(order + "I", len(data)) + data[8:]
    return head + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


def xmp(orientation, quote=b'="%d"'):
    return XMP % (quote % orientation)


TURNING = {
    "short.jpg": lambda o: encoded(stored(), "JPEG", exif=exif(o)),
    "long.jpg": lambda o: encoded(stored(), "JPEG", exif=exif(o, kind=4)),
    "long_little.jpg": lambda o: encoded(stored(), "JPEG", exif=exif(o, "<", kind=4)),
    "byte.jpg": lambda o: encoded(stored(), "JPEG", exif=exif(o, kind=1)),
    "xmp.jpg": lambda o: encoded(stored(), "JPEG", xmp=xmp(o)),
    "grey.jpg": lambda o: encoded(stored("L"), "JPEG", exif=exif(o)),
    "progressive.jpg": lambda o: encoded(stored(), "JPEG", exif=exif(o), progressive=True),
    "cmyk.jpg": lambda o: encoded(ImageOps.invert(stored()).convert("CMYK"), "JPEG", exif=exif(o)),
    "chunk.png": lambda o: encoded(stored(), "PNG", exif=exif(o)[6:]),
    "xmp.png": lambda o: with_text("XML:com.adobe.xmp", xmp(o).decode()),
    "xmp_element.png": lambda o: with_text("XML:com.adobe.xmp", f"<tiff:Orientation>{o}</tiff:Orientation>"),
    "raw.png": lambda o: with_text("Raw profile type exif", raw_profile(o)),
    "raw_app1.png": lambda o: with_text("Raw profile type APP1", raw_profile(o), zipped=True),
    "chunk_behind.png": lambda o: behind(b"eXIf", exif(o)[6:]),
    "raw_behind.png": lambda o: behind(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw_profile(o).encode())),
    "xmp_behind.png": lambda o: behind(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(o, b"='%d'")),
    "raw.tif": tiff,
    "lzw.tif": lambda o: tiff(o, compression="tiff_lzw"),
    "wide.tif": wide_tiff,
    "xmp.tif": lambda o: encoded(stored(), "TIFF", tiffinfo={700: xmp(o)}),
    "a.webp": lambda o: encoded(stored(), "WEBP", exif=exif(o), lossless=True),
    "xmp.webp": lambda o: encoded(stored(), "WEBP", xmp=xmp(o), lossless=True),
}


@pytest.mark.parametrize("name", TURNING)
def test_image_turned_by_any_metadata(tmp_path, name):
    """(image_turned_in_xmp) The size in the header is that of the pixels, and a patch of the upper left lies where it belongs."""
    for orientation, centre in ((6, (10, 18)), (3, (18, 30)), (8, (30, 6)), (1, (6, 10))):
        (path := tmp_path / name).write_bytes(TURNING[name](orientation))
        pixels = read_rgb(path)
        if name == "cmyk.jpg":
            pixels = 255 - pixels
        turned = orientation in (6, 8)
        assert pixels.shape == ((40, 24, 3) if turned else (24, 40, 3)), orientation
        assert image_size(path) == verify_image(path) == pixels.shape[:2]
        assert is_turned(path) == turned
        assert (pixels[centre] > 200).all() and (pixels > 128).mean() == pytest.approx(0.25, abs=0.03), orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_turned_as_pillow_turns_it(tmp_path, orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    for name in ("a.png", "b.webp"):
        Image.fromarray(pixels).save(tmp_path / name, exif=exif(orientation), lossless=True)
        with Image.open(tmp_path / name) as image:
            assert (read_rgb(tmp_path / name) == np.asarray(ImageOps.exif_transpose(image).convert("RGB"))).all()
    Image.fromarray(pixels[..., 0]).save(tmp_path / "mask.png", exif=exif(orientation))
    with Image.open(tmp_path / "mask.png") as image:  # a mask to which the photo's metadata were copied
        assert (read_values(tmp_path / "mask.png") == np.asarray(ImageOps.exif_transpose(image))).all()
    Image.fromarray(pixels[..., 0].astype(np.uint16) + 1000).save(tmp_path / "m.png", exif=exif(orientation))
    assert image_size(tmp_path / "m.png") == read_values(tmp_path / "m.png").shape


@pytest.mark.parametrize("data", [exif(0), exif(9), exif(6)[:20], b"Exif\0\0rubbish", exif(6).replace(b"MM", b"XX")])
def test_image_with_an_orientation_that_is_none(tmp_path, data):
    (path := tmp_path / "a.jpg").write_bytes(encoded(stored(), "JPEG", exif=data))
    assert read_rgb(path).shape[:2] == image_size(path) == (24, 40) and not is_turned(path)


def saved(path, values):
    if path.suffix == ".png" or values.ndim == 3:
        cv2.imwrite(str(path), values[..., ::-1] if values.ndim == 3 else values)
    else:
        Image.fromarray(values).save(path)
    return path


GREY = np.array([[61, 94, 80]])


@pytest.mark.parametrize(
    ("name", "values", "want"),
    [
        ("8_of_16.png", GREY.astype(np.uint16), GREY),
        ("8_of_16_colour.png", np.dstack([GREY, GREY + 1, GREY + 2]).astype(np.uint16), GREY),
        ("8_of_16_colour.tif", np.dstack([GREY, GREY + 1, GREY + 2]).astype(np.uint16), GREY),
        ("10.png", np.array([[244, 1023]], np.uint16), [[61, 255]]),
        ("12.png", np.array([[976, 1504, 4095]], np.uint16), [[61, 94, 255]]),
        ("12_colour.png", np.array([[[976, 1504, 4095]]], np.uint16), [[61]]),
        ("16.png", np.array([[15616, 65535]], np.uint16), [[61, 255]]),
        ("16_colour.png", np.array([[[15616, 0, 65535]]], np.uint16), [[61]]),
        ("16.tif", np.array([[976, 1504]], np.uint16), [[61, 94]]),
        ("whole.tif", GREY.astype(np.int32), GREY),
        ("whole_12.tif", np.array([[976, 4000]], np.int32), [[61, 250]]),
        ("fractions.tif", np.array([[0.24, 1, 0]], np.float32), [[61, 255, 0]]),
        ("whole_fractions.tif", GREY.astype(np.float32), GREY),
    ],
)
def test_images_dark_16bit(tmp_path, name, values, want):
    """Values of 8, 10 or 12 bits in 16, whole numbers of 32 bits and fractions from 0 to 1 are as bright as they are meant."""
    pixels = read_rgb(saved(tmp_path / name, values))
    assert pixels.dtype == np.uint8 and pixels[..., 0].tolist() == np.array(want).tolist()
    if values.ndim == 3:
        depth = 0 if values.max() < 256 else 4 if values.max() < 4096 else 8
        assert pixels.tolist() == (values >> depth).tolist()
    else:
        assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([[-5, 70]], np.int32), "holds whole numbers from -5 to 70, and which"),
        (np.array([[0, 70000]], np.int32), "holds whole numbers from 0 to 70000, and which"),
        (np.array([[0.5, 3.7]], np.float32), "holds fractions from 0.5 to 3.7, and which"),
        (np.array([[-0.5, 0.7]], np.float32), "holds fractions from -0.5 to 0.7, and which"),
        (np.array([[np.nan, 0.7]], np.float32), "holds fractions from nan to nan, and which"),
    ],
)
def test_images_of_unknown_brightness_are_refused(tmp_path, values, said):
    with pytest.raises(
        UserError, match=rf"the image .*a\.tif {said} of them is white .*; save it with 8 bits a channel$"
    ):
        read_rgb(saved(tmp_path / "a.tif", values))


def test_mask_colours_of_16_bits(tmp_path):
    """Colours of 8 bits, as they are or spread over 16."""
    colours = np.array([[[128, 64, 0], [0, 0, 200]]], np.uint16)
    for factor in (1, 257):
        cv2.imwrite(str(tmp_path / "m.png"), colours[..., ::-1] * factor)
        assert read_values(tmp_path / "m.png").tolist() == colours.tolist()


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1", b"msf1"])
def test_image_heic_named_jpg(tmp_path, brand):
    (path := tmp_path / "photo.jpg").write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(50))
    for read in (read_rgb, image_size, verify_image):
        with pytest.raises(
            UserError, match=r"photo\.jpg is HEIC inside, which is not read .*; save it as JPEG or take"
        ):
            read(path)


def test_colour_tiff_of_fractions_is_named(tmp_path):
    cv2.imwrite(str(tmp_path / "a.tif"), np.zeros((4, 5, 3), np.float32))
    with pytest.raises(
        UserError, match=r"a\.tif is a TIFF that is broken, or of a kind that is not read .*; save it as"
    ):
        read_rgb(tmp_path / "a.tif")


def test_sixteen_bits_of_which_0_is_white(tmp_path):
    Image.fromarray(np.array([[0, 0xFFFF, 0x4000]], np.uint16)).save(tmp_path / "a.tif", tiffinfo={262: 0})
    assert read_rgb(tmp_path / "a.tif")[..., 0].tolist() == [[255, 0, 191]]


@pytest.mark.parametrize("transform", [None, 0, 2])
def test_cmyk_is_as_pillow_reads_it(tmp_path, transform):
    """Adobe's inverted CMYK, YCCK, and without Adobe's segment."""
    squares = np.kron(
        np.random.default_rng(0).integers(0, 256, (3, 3, 4), dtype=np.uint8), np.ones((16, 16, 1), np.uint8)
    )
    data = encoded(Image.fromarray(squares, "CMYK"), "JPEG", quality=95)
    place = data.index(b"\xff\xee\0\x0eAdobe")
    segment = b"" if transform is None else data[place : place + 15] + bytes([transform])
    (path := tmp_path / "a.jpg").write_bytes(data[:place] + segment + data[place + 16 :])
    with Image.open(path) as image:
        assert np.abs(read_rgb(path).astype(int) - np.asarray(image.convert("RGB"))).max() < 8
    if transform == 0:
        assert (
            np.abs(read_rgb(path).astype(int) - np.asarray(Image.fromarray(squares, "CMYK").convert("RGB"))).mean() < 4
        )


def test_grey_with_transparency_of_16_bits(tmp_path):
    pixels = np.zeros((2, 3, 4), np.uint16)
    pixels[..., :3], pixels[..., 3] = 1500, 4000
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    assert (read_rgb(tmp_path / "a.png") == 1500 >> 4).all()


def photo(**options):
    """Smooth shapes with some noise, 160 x 120, as a JPEG."""
    rows, columns = np.mgrid[:120, :160]
    noise = np.random.default_rng(0).normal(0, 8, (120, 160, 3))
    pixels = np.stack([rows * 2, columns, 255 - rows], axis=-1) + noise
    return encoded(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), "JPEG", quality=85, **options)


def damaged(data, place=0.4, content=bytes(40)):
    start = int(len(data) * place)
    return data[:start] + content + data[start + len(content) :]


KINDS = (
    {},
    {"optimize": True},
    {"subsampling": 0},
    {"restart_marker_rows": 1},
    {"restart_marker_blocks": 7},
    {"progressive": True},
)


@pytest.mark.parametrize("options", KINDS, ids=" ".join)
def test_jpeg_damaged_inside(tmp_path, caplog, options):
    """40 bytes of zero in the image data of a file that has its end."""
    (path := tmp_path / "photo.jpg").write_bytes(photo(**options))
    assert damage(path) is None and verify_image(path) == (120, 160)
    read_rgb(path)
    assert not caplog.records
    path.write_bytes(damaged(photo(**options)))
    said = r"the JPEG .*photo\.jpg is damaged inside \(.*\); fetch the file again or take it out of the data set"
    with pytest.raises(UserError, match=said + "$"):
        verify_image(path)
    assert "photo.jpg is damaged inside" in damage(path)
    for _ in range(2):  # said once
        assert read_rgb(path).shape == (120, 160, 3)
    assert (
        len(caplog.records) == 1 and "photo.jpg is damaged inside" in caplog.text and "taken as they are" in caplog.text
    )


RANDOM = np.random.default_rng(1).integers(1, 255, 60, dtype=np.uint8).tobytes()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (damaged(photo(), content=RANDOM), ""),
        (photo()[:-2000] + photo()[-1000:], "bytes of its image data are missing or changed"),
        (photo()[:-2] + RANDOM + b"\xff\xd9", "its image data hold bytes too many, or changed ones"),
        (photo()[:-2000] + b"\xff\xc0" + photo()[-1998:], "the marker FF C0 stands in its image data"),
        (photo(restart_marker_rows=1).replace(b"\xff\xd2", b"\xff\xd5", 1), "its restart markers are out of order"),
        (
            photo(progressive=True)[:-900] + photo(progressive=True)[-300:],
            "bytes of its image data are missing or changed",
        ),
    ],
)
def test_damage_that_only_decoding_finds(tmp_path, data, reason):
    (path := tmp_path / "photo.jpg").write_bytes(data)
    assert f"photo.jpg is damaged inside ({reason}" in damage(path)


def test_restart_markers_that_are_missing(tmp_path):
    data = photo(restart_marker_rows=1)
    first, second = data.index(b"\xff\xd0"), data.index(b"\xff\xd8", 2) if b"\xff\xd8" in data[2:] else None
    assert second is None
    pieces = data[first:].split(b"\xff\xd1")[0]
    (path := tmp_path / "photo.jpg").write_bytes(data[:first] + pieces * 9 + data[first:])
    assert "photo.jpg is damaged inside (its restart markers are out of order" in damage(path)


@pytest.mark.parametrize("options", [*KINDS, {"comment": bytes(90)}, {"exif": exif(6) + bytes(900)}], ids=" ".join)
def test_sound_jpegs_are_not_called_damaged(tmp_path, options):
    """Among them white pages, whose image data hold long runs of equal bytes, and files with bytes behind their end."""
    page = Image.new("L", (400, 300), 255)
    page.paste(0, (30, 40, 90, 200))
    for data in (photo(**options), encoded(page, "JPEG", **options), encoded(page.convert("CMYK"), "JPEG", **options)):
        for more in (b"", bytes(100)):
            (path := tmp_path / "photo.jpg").write_bytes(data + more)
            assert damage(path) is None
            assert verify_image(path) in ((120, 160), (160, 120), (300, 400), (400, 300))
            assert damage(path) is None
    padded = photo()[:-2] + bytes(30) + photo()[-2:]  # as some webcams write
    path.write_bytes(padded)
    assert damage(path) is None and (decode_rgb(padded, "a") == decode_rgb(photo(), "a")).all()


def test_damage_of_other_formats(tmp_path):
    (path := tmp_path / "a.png").write_bytes(data := encoded(Image.open(io.BytesIO(photo())), "PNG", compress_level=0))
    assert damage(path) is None
    path.write_bytes(data[:-15] + bytes([data[-15] ^ 1]) + data[-14:])
    assert read_rgb(path).shape == (120, 160, 3)
    assert "a.png is damaged inside (the checksum of its chunk IDAT is wrong)" in damage(path)
    path.write_bytes(data[:5000])
    assert "a.png is broken" in damage(path)
    assert "there is no image" in damage(tmp_path / "missing.jpg")
    (path := tmp_path / "a.webp").write_bytes(encoded(stored(), "WEBP", lossless=True)[:-20])
    assert "a.webp is broken" in damage(path)
    (path := tmp_path / "a.tif").write_bytes(encoded(stored(), "TIFF"))
    assert damage(path) is None
