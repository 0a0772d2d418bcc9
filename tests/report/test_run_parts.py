"""What a report says besides figures: cost, anchors, environment, the command; galleries within their limits."""

import base64
import re

import numpy as np
import pytest
from records import run_record
from test_html_report import HOSTILE, Page, report

from seg_det.report import pictures
from seg_det.report.figures import anchor_table, cost_table
from seg_det.report.pictures import Details, Gallery, Picture, extremes, inlined, worst_and_best

COST = {
    "backbone stem": {"params": 250, "madds": 3_000_000},
    "class_predictors": {"params": 750, "madds": 1_000_000},
}
SIZES = {
    "all": {"objects": 1200, "matched": 0.625, "mean_iou": 0.5},
    "small": {"objects": 0, "matched": None, "mean_iou": None},
}
ANCHORS = [{"split": "pets train", "iou": 0.5, "sizes": SIZES, "histogram": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}]


def test_the_cost_of_the_parts_adds_up_to_all(tmp_path):
    stem, predictors = cost_table(run_record({"cost": COST}))
    assert stem == ("backbone stem", "250", 0.25, "3,000,000", 0.75)
    assert predictors == ("class predictors", "750", 0.75, "1,000,000", 0.25)
    text = Page(report(tmp_path, {"cost": COST})).sections["cost"]
    assert "backbone stem 250 25.0 % 3,000,000 75.0 % class predictors 750 75.0 % 1,000,000 25.0 %" in text


def test_the_anchors_by_size_and_as_a_chart(tmp_path):
    assert anchor_table(run_record({"anchors": ANCHORS})).columns == [
        "objects of",
        "number",
        "matched at IoU 0.5",
        "mean IoU",
    ]
    page = Page(report(tmp_path, {"anchors": ANCHORS}))
    assert (
        "pets train, all 1,200 62.5\N{NO-BREAK SPACE}% 0.500 pets train, small 0 - -".replace("\N{NO-BREAK SPACE}", " ")
        in page.sections["anchors"]
    )
    (chart,) = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    assert chart == "Objects by the IoU with their best anchor; matched at 0.5: pets train 0.625"


def test_a_split_without_objects_has_a_table_alone(tmp_path):
    empty = [{**ANCHORS[0], "histogram": [0] * 10}]
    page = Page(report(tmp_path, {"anchors": empty}))
    assert "anchors" in page.sections and not [tag for tag, _ in page.tags if tag == "svg"]


def test_how_to_do_it_again(tmp_path):
    metrics = {"command": "python train.py 'a=<b>'", "environment": {"torch": "2.13.0", "cpu": None, "gpu": "H200"}}
    text = Page(report(tmp_path, metrics)).sections["again"]
    assert (
        "python train.py 'a=<b>'" in text and "PyTorch 2.13.0 system 1 device 1 GPU H200" in text and "CPU" not in text
    )


def test_the_worst_and_the_best_of_few_images_are_not_the_same():
    assert extremes([1, 2, 3]) == ([1, 2], [3])
    assert extremes([]) == ([], []) and extremes([1]) == ([1], [])
    worst, best = extremes(range(100))
    assert worst == list(range(24)) and best == list(range(99, 87, -1))
    assert tuple(map(len, extremes(range(30)))) == (20, 10)


def picture(name="a.jpg", size=(20, 30)):
    return Picture(name, "no errors", np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))


def test_galleries_say_how_many_and_by_what_rule():
    worst, best = worst_and_best(
        [picture()] * 3, [picture()], rules=("most errors", "none"), legend=[("cat", (1, 2, 3))]
    )
    assert (worst.title, worst.rule, best.title, best.rule) == (
        "The 3 worst images",
        "most errors",
        "The best image",
        "none",
    )
    assert worst.legend == [("cat", (1, 2, 3))]
    assert worst_and_best([], [], rules=("", "")) == ()


def test_many_small_pictures_stand_in_a_grid(tmp_path):
    gallery = Gallery("The worst", "The rule.", [picture(f"{HOSTILE}{i}") for i in range(3)], small=True)
    html = report(tmp_path, {}, details=Details((gallery,)))
    page = Page(html)
    assert '<div class="pictures small">' in html and "enlarge" not in html
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [(image["width"], image["height"]) for image in images] == [("30", "20")] * 3
    assert page.sections["pictures-1"].count("no errors") == 3


def test_legends_name_their_colours(tmp_path):
    html = report(tmp_path, {}, details=Details((Gallery("a", "b", [picture()], [("cat", (1, 2, 3))]),)))
    assert '<span style="background:rgb(1, 2, 3)"></span>cat' in html


def test_pictures_that_are_too_large_together_are_encoded_with_less_quality(monkeypatch):
    gallery = Gallery("a", "b", [picture(size=(200, 200))] * 4)

    def size():
        return sum(len(base64.b64decode(shown.source.split(",")[1])) for row in inlined([gallery]) for shown in row)

    usual = size()
    monkeypatch.setattr(pictures, "MOST_BYTES", int(0.8 * usual))
    less = size()
    assert less <= 0.8 * usual
    monkeypatch.setattr(pictures, "MOST_BYTES", 10)  # below what any quality does: the lowest one
    assert 10 < size() < less


def test_pictures_can_be_enlarged_without_a_script(tmp_path):
    html = report(tmp_path, {}, details=Details((Gallery("a", "b", [picture()]),)))
    assert re.search(r'<figure id="pictures-1-1"><a href="#pictures-1-1"><img', html)
    assert "figure:target" in html and "<script" not in html


@pytest.mark.parametrize("columns", [2, 9])
def test_each_cell_of_the_class_table_has_its_heading_for_narrow_pages(tmp_path, columns):
    row = {f"figure_{n}": 0.5 for n in range(columns)}
    page = Page(report(tmp_path, {"per_class": {"cat": row}}))
    labels = [attributes["data-label"] for tag, attributes in page.tags if tag == "td" and "data-label" in attributes]
    assert labels == [f"figure {n}" for n in range(columns)]
