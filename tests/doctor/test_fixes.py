"""Corrected copies: readable without a complaint, without an error, beside originals that stay as they are."""

import json
from xml.etree import ElementTree

import planted
import pytest
from planted import BOXES, edit

from seg_det.data.coco import read_coco
from seg_det.data.voc import read_voc
from seg_det.data.yolo import read_yolo
from seg_det.doctor.examine import examine
from seg_det.doctor.findings import ERROR, Scope, Split
from seg_det.doctor.fixes import fix
from seg_det.errors import UserError
from seg_det.kinds.lookup import KINDS


def scope_of(read):
    return Scope(tuple(Split(role, read(role)) for role in ("train", "val")), (64, 64))


def errors(scope):
    return [one.fault for one in examine(scope, KINDS["detection"].checks) if one.severity == ERROR]


def contents(root):
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def as_before(before, root):
    now = contents(root)
    return all(now[path] == data for path, data in before.items())


def spoil_coco(document):
    boxes = ([4, 6, 0, 24], [100, 0, 9, 9], [40, 10, 40, 20], list(BOXES[0]))
    more = [
        {"id": 500 + i, "image_id": 2, "category_id": 1, "bbox": box, "area": 1, "iscrowd": 0, "segmentation": []}
        for i, box in enumerate(boxes)
    ]
    more += [{**more[0], "id": 600, "bbox": list(BOXES[1]), "category_id": 9}, {"id": 601, "image_id": 2}]
    document["annotations"] += more
    document["images"].append({"id": 99, "file_name": "1.jpg", "width": 64, "height": 64})
    document["annotations"].append({**more[2], "id": 700, "image_id": 99, "bbox": [2, 40, 20, 20]})
    document["images"].append({"id": 98, "file_name": "gone.jpg", "width": 64, "height": 64})
    document["annotations"].append({**more[2], "id": 701, "image_id": 98})
    document["info"] = {"licence": "CC0"}


def test_a_coco_file_is_corrected(tmp_path):
    planted.coco(tmp_path)
    edit("train", spoil_coco)(tmp_path)
    before = contents(tmp_path)
    files = {role: tmp_path / "annotations" / f"{role}.json" for role in ("train", "val")}

    def read(role, **more):
        return read_coco(images=tmp_path / role, annotations=files[role], **more)

    scope = scope_of(lambda role: read(role, on_bad="skip"))
    assert errors(scope)
    sections = {role: {"_target_": "read_coco", "annotations": str(path)} for role, path in files.items()}
    fixed = fix(scope, sections)
    copy = tmp_path / "annotations" / "train.cleaned.json"
    assert fixed.written == (copy,) and fixed.arguments == (f"dataset.train.annotations={copy}",) and not fixed.left
    assert as_before(before, tmp_path)
    document = json.loads(copy.read_text())
    assert document["info"] == {"licence": "CC0"}
    assert [image["id"] for image in document["images"]] == [1, 2, 3, 4, 5, 6]
    added = {entry["id"]: entry for entry in document["annotations"] if entry["id"] >= 500}
    assert {key: (entry["image_id"], entry["bbox"], entry["area"]) for key, entry in added.items()} == {
        502: (2, [40, 10, 24, 20], 480),  # clipped
        700: (1, [2, 40, 20, 20], 1),  # moved to the other id of its file
    }
    assert len(document["annotations"]) == 14 and len(fixed.changes) == 8
    files["train"] = copy
    assert errors(scope_of(read)) == []
    with pytest.raises(UserError, match=r"train\.cleaned\.json exists already"):
        fix(scope, sections)


@pytest.mark.parametrize("folder", [".", "labels/xml"])
def test_xml_files_without_lists_are_corrected_wherever_they_lie(folder, tmp_path):
    planted.voc(tmp_path)
    planted.write_xml(tmp_path, 1, [("cat", BOXES[0]), ("dog", [9, 9, 0, 9])])
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for path in (tmp_path / "Annotations").glob("*.xml"):
        path.rename(tmp_path / folder / path.name)
    where = {"root": tmp_path, "images": "JPEGImages"}
    source = read_voc(**where, annotations=folder, split=None, on_bad="skip")
    section = {"_target_": "read_voc", "root": str(tmp_path), "split": None, "annotations": folder}
    fixed = fix(Scope((Split("train", source),)), {"train": section})
    copy = "Annotations_cleaned" if folder == "." else "labels/xml_cleaned"
    assert fixed.arguments == (f"dataset.annotations={copy}", "dataset.train_split=all_cleaned")
    again = read_voc(**where, annotations=copy, split="all_cleaned")
    assert len(again.records) == len(source.records) and again.problems == ()
    with pytest.raises(UserError, match="needs the XML files of all parts in one folder and a list of images for each"):
        fix(Scope((Split("train", source), Split("val", source))), {"train": section, "val": section})


def test_voc_files_are_corrected(tmp_path):
    planted.voc(tmp_path)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    planted.write_xml(
        tmp_path,
        1,
        [("cat", BOXES[0]), ("owl", BOXES[1]), ("cat", BOXES[0]), ("dog", [40, 10, 40, 20]), ("dog", [9, 9, 0, 9])],
    )
    (tmp_path / "JPEGImages" / "2.jpg").write_bytes(b"")
    before = contents(tmp_path)

    def read(role, split=None, **more):
        return read_voc(root=tmp_path, split=split or role, **more)

    scope = scope_of(lambda role: read(role, on_bad="skip"))
    sections = {role: {"_target_": "read_voc", "root": str(tmp_path), "split": role} for role in ("train", "val")}
    fixed = fix(scope, sections)
    assert fixed.arguments == (
        "dataset.annotations=Annotations_cleaned",
        "dataset.train_split=train_cleaned",
        "dataset.val_split=val_cleaned",
    )
    assert as_before(before, tmp_path)
    tree = ElementTree.parse(tmp_path / "Annotations_cleaned" / "1.xml")
    rows = [
        (element.findtext("name"), [float(corner.text) for corner in element.find("bndbox")])
        for element in tree.findall("object")
    ]
    assert rows == [("cat", [5, 7, 34, 30]), ("dog", [41, 11, 64, 30])]
    assert (tmp_path / "ImageSets" / "Main" / "train_cleaned.txt").read_text().split() == ["1", "3", "4", "5", "6"]
    assert len(fixed.changes) == 5
    assert errors(scope_of(lambda role: read(role, f"{role}_cleaned", annotations="Annotations_cleaned"))) == []


def test_yolo_files_are_corrected(tmp_path):
    planted.yolo(tmp_path)
    file = tmp_path / "labels" / "train" / "1.txt"
    original = file.read_text().splitlines()
    bad = ["7 0.5 0.5 0.1 0.1", "0 0.5 0.5 0 0.2", "0 0.9 0.5 0.4 0.2", "not a number at all", "", original[0]]
    file.write_text("\n".join([*bad[:5], *original, bad[5]]) + "\n")
    (tmp_path / "images" / "train" / "2.jpg").write_bytes(b"")
    before = contents(tmp_path)
    scope = scope_of(lambda role: read_yolo(root=tmp_path, split=role, on_bad="skip"))
    fixed = fix(scope, {role: {"_target_": "read_yolo", "root": str(tmp_path)} for role in ("train", "val")})
    described = tmp_path / "data.cleaned.yaml"
    assert fixed.arguments[:2] == (f"dataset.root={described}", "dataset.labels=labels_cleaned")
    assert as_before(before, tmp_path) and len(fixed.changes) == 6
    assert (tmp_path / "labels_cleaned" / "train" / "1.txt").read_text().splitlines() == [
        "0 0.85 0.5 0.3 0.2",
        *original,
    ]
    cleaned = scope_of(lambda role: read_yolo(root=described, split=role, labels="labels_cleaned"))
    assert errors(cleaned) == []
    assert [len(split.source.records) for split in cleaned.splits] == [5, 3]


def test_sound_annotations_are_not_copied(tmp_path):
    for layout, reader in (("voc", read_voc), ("yolo", read_yolo)):
        root = tmp_path / layout
        planted.LAYOUTS[layout].make(root)
        before = contents(root)
        scope = scope_of(lambda role, reader=reader, root=root: reader(root=root, split=role, on_bad="skip"))
        sections = {r: {"_target_": reader.__name__, "root": str(root), "split": r} for r in ("train", "val")}
        assert fix(scope, sections).changes == () and contents(root) == before


def test_other_formats_are_refused_with_a_sentence(tmp_path):
    planted.camvid(tmp_path)
    scope = scope_of(lambda role: planted.LAYOUTS["camvid"].read(tmp_path, role))
    with pytest.raises(
        UserError, match="fix=true writes COCO's JSON, VOC's XML and YOLO's text labels, not what read_camvid"
    ):
        fix(scope, {"train": {"_target_": "read_camvid"}})


def test_voc_files_in_folders_and_in_other_forms_are_corrected(tmp_path):
    planted.voc(tmp_path)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        (tmp_path / kind / "cam1").mkdir()
        (tmp_path / kind / f"1.{suffix}").rename(tmp_path / kind / "cam1" / f"1.{suffix}")
    lines = tmp_path / "ImageSets" / "Main" / "train.txt"
    lines.write_text("".join(f"{line if line != '1' else 'cam1/1'}\n" for line in lines.read_text().split()))
    file = tmp_path / "Annotations" / "cam1" / "1.xml"
    text = file.read_text()
    first = text[text.index("<object>") : text.index("</object>") + len("</object>")]
    file.write_text(text.replace(first, first + first).replace("object>", "Object>"))

    def read(role, **more):
        return read_voc(root=tmp_path, split=role, **more)

    scope = scope_of(lambda role: read(role, on_bad="skip"))
    fixed = fix(
        scope, {role: {"_target_": "read_voc", "root": str(tmp_path), "split": role} for role in ("train", "val")}
    )
    assert len(fixed.changes) == 1 and "doubles another one" in fixed.changes[0].sentence
    cleaned = scope_of(lambda role: read(f"{role}_cleaned", annotations="Annotations_cleaned"))
    before, after = (sum(len(r.boxes) for r in one.splits[0].source.records) for one in (scope, cleaned))
    assert after == before - 1 and errors(cleaned) == []
