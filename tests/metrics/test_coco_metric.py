"""COCO figures: hand-made cases whose figures are known, the mistakes of users, and the published oracle."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from seg_det.data.records import DetectionRecord
from seg_det.errors import UserError
from seg_det.metrics.coco import FIGURES, evaluate_coco, ground_truth, results
from seg_det.types import Category, Detections

CATEGORIES = (Category(18, "dog"), Category(90, "toothbrush"))


def record(image_id, boxes, labels, crowd=None, area=None, size=(100, 200)):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    none = np.zeros(len(boxes), bool)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) if area is None else np.array(area, np.float32)
    crowd = none if crowd is None else np.array(crowd)
    return DetectionRecord(
        Path(f"photos/{image_id}.jpg"), image_id, size, boxes, np.array(labels, np.int64), crowd, none, area
    )


def detections(boxes, scores, labels):
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int64),
    )


def row(image_id=7, category_id=18, bbox=(10, 20, 30, 40), score=0.9):
    return {"image_id": image_id, "category_id": category_id, "bbox": list(bbox), "score": score}


def truth(*boxes_xywh, **more):
    annotations = [
        {"id": n, "image_id": 7, "category_id": 18, "bbox": list(box), "area": box[2] * box[3], "iscrowd": 0, **more}
        for n, box in enumerate(boxes_xywh)
    ]
    categories = [{"id": 18, "name": "dog"}, {"id": 90, "name": "toothbrush"}]
    return {"images": [{"id": 7, "height": 480, "width": 640}], "annotations": annotations, "categories": categories}


def test_ground_truth_has_the_original_ids_and_areas():
    records = [record(7, [[10, 20, 40, 60]], [1], crowd=[True], area=[700]), record(9, [], [])]
    dataset = ground_truth(records, CATEGORIES)
    assert dataset["images"] == [
        {"id": 7, "height": 100, "width": 200, "file_name": "7.jpg"},
        {"id": 9, "height": 100, "width": 200, "file_name": "9.jpg"},
    ]
    assert dataset["annotations"] == [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 90,
            "bbox": [10.0, 20.0, 30.0, 40.0],
            "area": 700.0,
            "iscrowd": 1,
            "ignore": 0,
        }
    ]
    assert dataset["categories"] == [{"id": 18, "name": "dog"}, {"id": 90, "name": "toothbrush"}]
    json.dumps(dataset)


def test_results_have_the_original_ids_and_undo_float32():
    found = detections([[258.15, 41.29, 606.41, 285.07], [0, 0, 1, 1]], [0.25, 0.125], [0, 1])
    rows = results(torch.tensor([42]), [found], CATEGORIES)
    assert rows == [
        {"image_id": 42, "category_id": 18, "bbox": [258.15, 41.29, 348.26, 243.78], "score": 0.25},
        {"image_id": 42, "category_id": 90, "bbox": [0.0, 0.0, 1.0, 1.0], "score": 0.125},
    ]
    json.dumps(rows)


@pytest.mark.parametrize("label", [2, -1])
def test_results_refuse_a_label_without_category(label):
    with pytest.raises(UserError, match=f"image id 42 has label {label}, but there are 2 categories"):
        results([42], [detections([[0, 0, 1, 1]] * 2, [0.5, 0.4], [0, label])], CATEGORIES)


def test_a_perfect_detection_of_one_large_object():
    scores = evaluate_coco(truth((10, 20, 100, 100)), [row(bbox=(10, 20, 100, 100))])
    absent = dict.fromkeys(("APs", "APm", "ARs", "ARm"))
    present = dict.fromkeys(("AP", "AP50", "AP75", "APl", "AR1", "AR10", "AR100", "ARl"), 1.0)
    assert scores.stats == pytest.approx({**absent, **present})
    assert list(scores.stats) == [figure.name for figure in FIGURES]
    assert scores.per_class["dog"] == pytest.approx({"AP": 1.0, "AP50": 1.0, "AP75": 1.0})
    assert scores.per_class["toothbrush"] == {"AP": None, "AP50": None, "AP75": None}


def test_an_iou_of_0_72_is_a_find_at_five_of_ten_thresholds():
    scores = evaluate_coco(truth((0, 0, 100, 100)), [row(bbox=(0, 0, 72, 100))])  # 0.50, 0.55, 0.60, 0.65, 0.70
    assert scores.stats["AP"] == pytest.approx(0.5)
    assert scores.per_class["dog"] == pytest.approx({"AP": 0.5, "AP50": 1.0, "AP75": 0.0})


def test_a_false_alarm_before_the_find_halves_the_precision():
    rows = [row(bbox=(300, 300, 50, 50), score=0.9), row(score=0.8)]
    assert evaluate_coco(truth((10, 20, 30, 40)), rows).stats["AP"] == pytest.approx(0.5)


def test_detections_in_a_crowd_are_neither_true_nor_false():
    dataset = truth((10, 20, 30, 40), (300, 300, 200, 100))
    dataset["annotations"][1]["iscrowd"] = 1
    in_crowd = [row(bbox=(310, 310, 20, 20), score=0.95), row(bbox=(400, 330, 20, 20), score=0.94)]
    assert evaluate_coco(dataset, [*in_crowd, row()]).stats["AP"] == pytest.approx(1.0)
    dataset["annotations"][1]["iscrowd"] = 0
    assert evaluate_coco(dataset, [*in_crowd, row()]).stats["AP"] < 0.5


def test_an_annotation_with_id_0_can_be_found():
    dataset = truth((10, 20, 30, 40))
    assert dataset["annotations"][0]["id"] == 0
    assert evaluate_coco(dataset, [row()]).stats["AP"] == pytest.approx(1.0)


def test_optional_keys_of_annotations_have_defaults():
    dataset = truth((10, 20, 30, 40))
    for key in ("area", "iscrowd"):
        del dataset["annotations"][0][key]
    stats = evaluate_coco(dataset, [row()]).stats
    assert stats["APm"] == pytest.approx(1.0)  # 30 x 40 = 1,200 pixels: medium starts at 1,024
    assert stats["APs"] is None


def test_no_detection_at_all_is_zero_where_there_are_objects():
    stats = evaluate_coco(truth((10, 20, 30, 40)), []).stats
    assert (stats["AP"], stats["AR100"], stats["APm"], stats["APl"]) == (0.0, 0.0, 0.0, None)


def test_no_object_at_all_is_none_everywhere():
    scores = evaluate_coco(truth(), [row()])
    assert set(scores.stats.values()) == {None}
    assert scores.summary().count("= -1.000") == 12


def test_the_arguments_stay_as_they_are_and_nothing_is_printed(capsys):
    dataset, rows = truth((10, 20, 30, 40)), [row()]
    before = copy.deepcopy((dataset, rows))
    evaluate_coco(dataset, rows)
    assert (dataset, rows) == before
    assert capsys.readouterr().out == ""


def test_summary_is_the_known_one():
    lines = evaluate_coco(truth((10, 20, 100, 100)), [row(bbox=(10, 20, 100, 100))]).summary().splitlines()
    assert lines[0] == " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 1.000"
    assert lines[2] == " Average Precision  (AP) @[ IoU=0.75      | area=   all | maxDets=100 ] = 1.000"
    assert lines[6] == " Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=  1 ] = 1.000"
    assert lines[9] == " Average Recall     (AR) @[ IoU=0.50:0.95 | area= small | maxDets=100 ] = -1.000"
    assert len(lines) == 12


def test_classes_of_one_name_stay_apart():
    dataset = truth((10, 20, 30, 40))
    dataset["categories"][1]["name"] = "dog"
    assert list(evaluate_coco(dataset, [row()]).per_class) == ["dog (id 18)", "dog (id 90)"]


def test_masks_are_compared_with_segm_and_their_own_area_counts():
    square = [[10, 10, 30, 10, 30, 30, 10, 30]]
    mask = coco_mask.frPyObjects(square, 480, 640)[0]
    mask["counts"] = mask["counts"].decode()
    huge_box = {"image_id": 7, "category_id": 18, "segmentation": mask, "bbox": [0, 0, 640, 480], "score": 0.5}
    dataset = truth((10, 10, 20, 20), segmentation=square)
    stats = evaluate_coco(dataset, [huge_box], iou_type="segm").stats
    assert (stats["AP"], stats["APs"], stats["APl"]) == (pytest.approx(1.0), pytest.approx(1.0), None)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(), row(image_id=8), row(image_id=5)], "images that the ground truth has not: image_id 5, 8"),
        ([row(image_id=n) for n in range(10, 17)], r"image_id 10, 11, 12, 13, 14, \.\.\. \(7 in all\)"),
        ([row(category_id=1)], "categories that the ground truth has not: category_id 1"),
        ([row(), row(score=float("nan"))], "not finite numbers in image id 7"),
        ([row(bbox=(0, 0, float("inf"), 1))], "not finite numbers in image id 7"),
        ([row(bbox=(0, 0, 1))], r"result row 0 has the bbox \[0, 0, 1\]; it needs x, y, width, height"),
        ([row(), {"image_id": 7, "category_id": 18, "bbox": [0, 0, 1, 1]}], "result row 1 has no score"),
        ([row(), 3], "result row 1 is 3; every row needs image_id, category_id, bbox, score"),
        ([row(score=None)], "result row 0 has the score None; it needs a number"),
        ([row(score="0.5")], "result row 0 has the score '0.5'; it needs a number"),
        ([row(image_id="7")], "result row 0 has the image_id '7'; it needs a whole number"),
        ([{**row(), "bbox": None}], "result row 0 has the bbox None; it needs x, y, width, height"),
        ([row(bbox=(0, 0, "1", 1))], r"result row 0 has the bbox \[0, 0, '1', 1\]; it needs x, y"),
        ({"annotations": []}, "the results are no list of rows but a dict; give a COCO result file"),
    ],
)
def test_bad_results_are_named(rows, message):
    with pytest.raises(UserError, match=message):
        evaluate_coco(truth((10, 20, 30, 40)), rows)


def test_bad_ground_truth_is_named(tmp_path):
    with pytest.raises(UserError, match="the ground truth has no annotations; give"):
        evaluate_coco({"images": [], "categories": []}, [])
    with pytest.raises(UserError, match="annotation id 0 of image id 7 has no segmentation"):
        evaluate_coco(truth((1, 1, 2, 2)), [], iou_type="segm")
    with pytest.raises(UserError, match="iou_type=mask is unknown; choose one of bbox, segm"):
        evaluate_coco(truth(), [], iou_type="mask")
    with pytest.raises(UserError, match=r"cannot read the COCO ground truth .*none.json: No such file"):
        evaluate_coco(tmp_path / "none.json", [])
    (tmp_path / "broken.json").write_text('[{"image_id": 7')
    with pytest.raises(UserError, match=r"the COCO results .*broken.json is not valid JSON"):
        evaluate_coco(truth(), tmp_path / "broken.json")


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_equal_to_the_published_evaluation(real_data, kind):
    folder = real_data / "data" / "coco_eval_oracle"
    expected = json.loads((folder / "expected.json").read_text())[kind]
    scores = evaluate_coco(folder / expected.pop("gt"), folder / expected.pop("dt"), iou_type=kind)
    assert {name: round(value, 6) for name, value in scores.stats.items()} == expected
    published = (folder / "val2014_fake_eval_res.txt").read_text().split(f"type={kind}")[1]
    assert [line[-5:] for line in scores.summary().splitlines()] == [
        line[-5:] for line in published.splitlines() if line.startswith(" Average")
    ][:12]
    present = [figures["AP"] for figures in scores.per_class.values() if figures["AP"] is not None]
    assert np.mean(present) == pytest.approx(scores.stats["AP"], abs=1e-9)


def test_records_and_detections_reach_the_same_digits(real_data):
    folder = real_data / "data" / "coco_eval_oracle"
    expected = json.loads((folder / "expected.json").read_text())["bbox"]
    dataset, rows = (json.loads((folder / expected.pop(key)).read_text()) for key in ("gt", "dt"))
    categories = [Category(c["id"], c["name"]) for c in dataset["categories"]]
    index = {category.id: n for n, category in enumerate(categories)}
    records, found = [], {}
    for image in dataset["images"]:
        objects = [a for a in dataset["annotations"] if a["image_id"] == image["id"]]
        mine = [r for r in rows if r["image_id"] == image["id"]]
        records.append(
            record(
                image["id"],
                [corners(a["bbox"]) for a in objects],
                [index[a["category_id"]] for a in objects],
                np.array([a["iscrowd"] for a in objects], bool),
                [a["area"] for a in objects],
            )
        )
        found[image["id"]] = detections(
            [corners(r["bbox"]) for r in mine], [r["score"] for r in mine], [index[r["category_id"]] for r in mine]
        )
    scores = evaluate_coco(ground_truth(records, categories), results(found.keys(), found.values(), categories))
    assert {name: round(value, 6) for name, value in scores.stats.items()} == expected


def corners(box):
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]
