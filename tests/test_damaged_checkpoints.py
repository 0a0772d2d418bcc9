"""Checkpoints that a disk, a copy or a person damaged: none is loaded, and a sound one beside it is named or taken."""

import io
import logging
import random
import struct
import zipfile
from functools import partial

import pytest
import torch
from weight_files import classifier

from seg_det import checkpoint, checksums
from seg_det.errors import UserError
from seg_det.models.backbones.mobilenet_v1 import MobileNetV1

DAMAGED = r"x\.ckpt is (damaged \(its checksum does not fit\)|truncated or no PyTorch file \(.+\)): get it again\.$"


@pytest.fixture(scope="module")
def content():
    torch.manual_seed(0)
    model = classifier(partial(MobileNetV1, width=0.25), classes=3)
    return {"state_dict": model.state_dict(), "card": {"name": "m"}, "epoch": 4, "global_step": 15}


@pytest.fixture(scope="module")
def sound(content, tmp_path_factory):
    """The bytes of a checkpoint."""
    path = tmp_path_factory.mktemp("sound") / "x.ckpt"
    checkpoint.save(content, path)
    return path.read_bytes()


def refused(path, data):
    path.write_bytes(data)
    with pytest.raises(UserError, match=DAMAGED):
        checkpoint.load_plain(path)


def test_a_saved_checkpoint_is_read(content, sound, tmp_path):
    (tmp_path / "x.ckpt").write_bytes(sound)
    read = checkpoint.read(tmp_path / "x.ckpt")
    assert read["epoch"] == 4 and read["checksum"] == "sha256"
    assert all(torch.equal(value, read["state_dict"][key]) for key, value in content["state_dict"].items())


def test_other_readers_pass_over_the_checksum(content, sound, tmp_path):
    (path := tmp_path / "x.ckpt").write_bytes(sound)
    for read in (
        torch.load(path, weights_only=True),
        torch.load(path, weights_only=True, mmap=True),
        torch.load(io.BytesIO(sound), weights_only=True),
    ):
        key = next(iter(content["state_dict"]))
        assert torch.equal(read["state_dict"][key], content["state_dict"][key])
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None and archive.comment.startswith(checksums.MAGIC)


def test_a_flipped_bit_anywhere_is_noticed(sound, tmp_path):
    directory = sound.rindex(b"PK\x01\x02")  # the last entry of the archive's table of contents
    chance = random.Random(0)
    places = [*range(0, 80, 2), *range(directory, len(sound), 3), len(sound) - 1]
    places += [chance.randrange(len(sound)) for _ in range(300 - len(places))]
    assert len(places) == 300
    for place in places:
        data = bytearray(sound)
        data[place] ^= 1 << chance.randrange(8)
        (tmp_path / "x.ckpt").write_bytes(data)
        with pytest.raises(UserError, match=r"x\.ckpt is damaged \(its checksum does not fit\): get it again\.$"):
            checkpoint.load_plain(tmp_path / "x.ckpt")


def test_no_truncated_file_is_loaded(sound, tmp_path):
    lengths = [0, 1, 4, 100, *range(1000, len(sound), len(sound) // 30), *(len(sound) - n for n in range(1, 120, 6))]
    assert len(lengths) > 50
    for length in lengths:
        refused(tmp_path / "x.ckpt", sound[:length])


def test_other_damage(sound, tmp_path):
    path, middle = tmp_path / "x.ckpt", len(sound) // 2
    for data in (
        sound + b"\0",
        sound[:-1000] + bytes(1000),  # blocks that never reached the disk
        sound[:middle] + bytes(4096) + sound[middle + 4096 :],
        sound[:4096] + sound[8192:12288] + sound[4096:8192] + sound[12288:],
        sound[: -checksums.LENGTH - 2] + b"\0\0",  # the checksum taken off neatly
        sound[: -checksums.LENGTH - 2] + struct.pack("<H", 5) + b"other",
        bytes(len(sound)),
    ):
        refused(path, data)


def test_files_without_a_checksum_load(content, tmp_path):
    for settings in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save(content, tmp_path / "old.ckpt", **settings)
        assert checkpoint.read(tmp_path / "old.ckpt")["epoch"] == 4


def test_the_checksum_is_for_archives_alone(tmp_path):
    with pytest.raises(ValueError, match="a zip archive without a comment"):
        checksums.append(io.BytesIO(b"no archive"))


@pytest.fixture
def run(content, tmp_path):
    """A run of three checkpoints, the best one older than the others."""
    folder = tmp_path / "run" / "checkpoints"
    for name, step in (("best", 3), ("kept", 12), ("last", 15)):
        checkpoint.save({**content, "epoch": step // 3 - 1, "global_step": step}, folder / f"{name}.ckpt")
    (folder / ".last.ckpt.part").write_bytes(b"what a killed process left")
    return folder.parent


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def test_resume_takes_the_newest_sound_checkpoint_and_says_so(run, caplog):
    last = run / "checkpoints" / "last.ckpt"
    with caplog.at_level(logging.WARNING):
        assert checkpoint.find(run, prefer="last") == last and not caplog.records
        damage(last)
        assert checkpoint.find(run, prefer="last") == run / "checkpoints" / "kept.ckpt"
        last.write_bytes(b"")
        damage(run / "checkpoints" / "kept.ckpt")
        assert checkpoint.find(run, prefer="last") == run / "checkpoints" / "best.ckpt"
        last.unlink()
        assert checkpoint.find(run, prefer="last") == run / "checkpoints" / "best.ckpt"
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3 and all("\n" not in sentence for sentence in said)
    start = f"Resuming from {run / 'checkpoints'}"
    assert said[0].startswith(
        f"{start}/kept.ckpt, the newest sound checkpoint of the run: {last} is damaged (its checksum"
    )
    assert said[1].startswith(f"{start}/best.ckpt") and f"{last} is truncated or no PyTorch file" in said[1]
    assert f"There is no file {last}." in said[2]


def test_a_broken_checkpoint_that_was_named_is_not_replaced(run):
    last, kept = (run / "checkpoints" / f"{name}.ckpt" for name in ("last", "kept"))
    damage(last)
    sentence = rf"last\.ckpt is damaged \(its checksum does not fit\): get it again, or name {kept}, which is sound\.$"
    with pytest.raises(UserError, match=sentence):
        checkpoint.find(last, prefer="last")


def test_a_broken_best_checkpoint_is_not_replaced_silently(run):
    damage(run / "checkpoints" / "best.ckpt")
    sentence = r"best\.ckpt is damaged \(.*\): get it again, or name .*checkpoints/last\.ckpt, which is sound\.$"
    with pytest.raises(UserError, match=sentence):
        checkpoint.load(checkpoint.find(run))


def test_a_run_without_any_sound_checkpoint(run):
    for path in run.glob("checkpoints/*.ckpt"):
        damage(path)
    with pytest.raises(UserError, match=r"last\.ckpt is damaged \(its checksum does not fit\): get it again\.$"):
        checkpoint.read(checkpoint.find(run, prefer="last"))


def test_a_full_disk_leaves_the_earlier_checkpoint(run, content, monkeypatch):
    def refuse(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checksums, "append", refuse)
    last = run / "checkpoints" / "last.ckpt"
    with pytest.raises(UserError, match=r"last\.ckpt cannot be written \(No space left on device\): free space"):
        checkpoint.save({**content, "epoch": 5}, last)
    assert checkpoint.read(last)["epoch"] == 4 and not (last.parent / ".last.ckpt.part").exists()
