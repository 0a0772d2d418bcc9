"""Files are written whole: a failure at any moment leaves the earlier content, and one sentence."""

import errno
import os
import subprocess

import pytest
import torch

from seg_det import files
from seg_det.errors import UserError
from seg_det.files import CannotWrite, copy_whole, whole, write_whole


class FullDisk:
    """A file on a disk with room for ``room`` bytes more."""

    def __init__(self, file, room):
        self.file = file
        self.room = room

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def flush(self):
        self.file.flush()


def test_the_earlier_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "new" / "a.bin"
    write_whole(path, "old")
    with whole(path) as file:
        file.write(b"n")
        file.flush()
        assert path.read_text() == "old"
        assert (path.parent / ".a.bin.part").read_bytes() == b"n"
        file.write(b"ew")
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


def test_content_reaches_the_disk_before_the_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(files.os, "fsync", lambda handle: done.append(path.exists()))
    path = tmp_path / "a"
    write_whole(path, "a")
    assert done == [False, True]  # the file, the replacement, the folder


@pytest.mark.parametrize("error", [ValueError("fault"), KeyboardInterrupt()])
def test_an_error_of_the_writer_passes_and_leaves_the_earlier_file(tmp_path, error):
    path = write_whole(tmp_path / "a", "old")
    with pytest.raises(type(error)), whole(path) as file:
        file.write(b"half")
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("room", [0, 100, 5000, 400_500])
def test_a_full_disk_under_torch(tmp_path, room):
    path = write_whole(tmp_path / "last.ckpt", "old")
    sentence = r"last\.ckpt cannot be written \(No space left on device\): free space there .* file is as it was\.$"
    with pytest.raises(UserError, match=sentence), whole(path) as file:
        torch.save({"a": torch.zeros(100_000)}, FullDisk(file, room))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_really_full(tmp_path):
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", tmp_path], capture_output=True)
    if mount.returncode:
        pytest.skip("no right to mount a small disk; test_a_full_disk_under_torch imitates one")
    try:
        path = write_whole(tmp_path / "last.ckpt", "old")
        with pytest.raises(CannotWrite, match=r"last\.ckpt cannot be written \(No space left"), whole(path) as file:
            torch.save({"a": torch.zeros(500_000)}, file)
        assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"a\.json cannot be written \(.+\): .* nothing was written\.$"):
        write_whole(tmp_path / "file" / "a.json", "x")
    if os.getuid():  # the administrator may write anywhere
        tmp_path.chmod(0o500)
        with pytest.raises(UserError, match=r"a\.json cannot be written \(Permission denied\)"):
            write_whole(tmp_path / "a.json", "x")
        tmp_path.chmod(0o700)


def test_what_a_killed_process_left_is_overwritten(tmp_path):
    (tmp_path / ".a.part").write_text("a long rest of another write")
    with whole(tmp_path / "a") as file:
        file.write(b"new")
    assert (tmp_path / "a").read_text() == "new" and list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_two_writers_of_one_text_do_not_meet(tmp_path):
    path = tmp_path / "a"
    with whole(path, shared=True) as one, whole(path, shared=True) as two:
        one.write(b"one one one")
        two.write(b"two")
    assert path.read_text() == "one one one" and list(tmp_path.iterdir()) == [path]


def test_a_copy_is_whole(tmp_path):
    source = write_whole(tmp_path / "a", "content")
    copy_whole(source, tmp_path / "b" / "a")
    assert (tmp_path / "b" / "a").read_text() == "content"


def test_what_was_begun_is_removed_where_it_fails(tmp_path):
    (tmp_path / "before").write_text("x")
    with pytest.raises(OSError, match="full"), files.nothing_half(tmp_path):
        (tmp_path / "before").write_text("y")
        (tmp_path / "half.onnx").touch()
        (tmp_path / "package").mkdir()
        (tmp_path / "package" / "weights").touch()
        raise OSError(28, "full")
    assert [path.name for path in tmp_path.iterdir()] == ["before"]
    with files.nothing_half(tmp_path):
        (tmp_path / "whole.onnx").touch()
    assert (tmp_path / "whole.onnx").is_file()
