"""The run's report: one file that needs nothing else, shows the figures, and trusts no name."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from records import run_record

from seg_det.errors import UserError
from seg_det.report.curves import (
    draw_class_bars,
    draw_learning_rate,
    draw_losses,
    draw_validation,
    read_history,
)
from seg_det.report.figures import headline_tiles
from seg_det.report.html import write_report
from seg_det.report.pictures import Details, Gallery, Picture

HOSTILE = "<script>alert('x')</script>$\\frac"
LOG = """epoch,lr,step,train/loss,val/AP,val/AP50
0,,9,4.5,,
,0.01,9,,,
0,,19,3.5,,
0,,19,,0.25,0.5
1,,39,2.5,,
1,,39,,0.375,nan
"""
METRICS = {
    "verb": "train",
    "name": "ssdlite_v2_shapes",
    "coco": {"AP": 0.513, "AP50": 0.772, "APs": 0.304, "ARl": None},
    "voc": {"AP50_all_point": 0.771, "difficult_counted": False},
    "per_class": {"circle": {"AP": 0.625, "AP50": 0.875}, HOSTILE: {"AP": None, "AP50": 0.125}},
    "model": {"params": 4337013, "madds": 788800000, "input_size": [224, 224]},
    "training": {
        "epochs": 8,
        "steps": 752,
        "minutes": 6.84,
        "images": 1500,
        "seed": 12345,
        "weights": "torchvision/mobilenet_v2",
    },
    "evaluation": {"images": 200, "ms_per_image": 12.1, "split": "shapes val"},
    "problems": ["a.jpg: box 3 has no area <b>"],
    "card": {
        "task": "detection",
        "categories": [{"id": 7, "name": "circle"}, {"id": 9, "name": HOSTILE}],
        "training_data": {"name": "shapes train", "categories": [1, 2]},
    },
}
VOID = {"meta", "link", "img", "input"}


class Page(HTMLParser):
    """Tags with their attributes, the text of each section, and whether every tag was closed in turn."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.sections = [], [], {"": ""}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("id")))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        section = next((name for _, name in reversed(self.open) if name), "")
        self.sections[section] = " ".join((self.sections.get(section, "") + " " + data).split())


def report(folder, metrics, *, history=None, config="", details=None):
    path = write_report(folder, record=run_record(metrics), history=history, config=config, details=details)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture
def history(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(LOG)
    return path


@pytest.fixture
def full(tmp_path, history):
    picture = Picture("photo 1 <i>", "no errors <b>", np.full((60, 160, 3), 90, dtype=np.uint8))
    gallery = Gallery("The worst image", "Most errors <u> first.", [picture], [(HOSTILE, (1, 2, 3))])
    details = Details((gallery,))
    return report(tmp_path / "run", METRICS, history=history, config="seed: 0\nname: <x>\n", details=details)


def test_every_section_is_there(full):
    sections = Page(full).sections
    assert set(sections) >= {"headline", "card", "curves", "classes", "figures", "pictures-1", "problems", "config"}
    assert sections["headline"] == (
        "AP 0.513 mean over IoU 0.50 to 0.95 AP50 0.772 at IoU 0.50 Parameters 4.34\u00a0M MAdds 0.789\u00a0G "
        "224 \N{MULTIPLICATION SIGN} 224 input Minutes 6.8 8 epochs, 752 steps Images 1,500 trained on, 200 measured on"
    ).replace("\u00a0", " ")
    assert "APs 0.304 objects below 32² pixels ARl -" in sections["figures"]
    assert "Pascal VOC AP50_all_point 0.771" in sections["figures"]
    assert "difficult_counted no" in sections["figures"]
    assert "circle 0.625 0.875" in sections["classes"]
    assert f"{HOSTILE} - 0.125" in sections["classes"]
    assert "name: <x>" in sections["config"]
    assert sections["pictures-1"].startswith("The worst image Most errors <u> first. Select a picture")
    assert sections["pictures-1"].endswith(HOSTILE)
    assert sections["pictures-1-1"] == "smaller photo 1 <i> no errors <b>"
    assert "Problems (1) a.jpg: box 3 has no area <b>" in sections["problems"]


def test_the_card_says_what_was_trained_on_what(full):
    text = Page(full).sections["card"]
    for fact in (
        "parameters 4,337,013",
        "input size 224 \N{MULTIPLICATION SIGN} 224",
        "weights torchvision/mobilenet_v2",
        "minutes 6.84",
        "seed 12345",
        "ms an image 12.1",
        "split shapes val",
        "name shapes train",
        f"2 classes circle, {HOSTILE}",
    ):
        assert fact in text


def test_hostile_names_stay_text(full):
    tags = [tag for tag, _ in Page(full).tags]
    assert "script" not in tags
    assert {"x", "i", "b", "u"}.isdisjoint(tags)
    assert "<script" not in full


def test_the_page_needs_nothing_from_outside(full):
    page = Page(full)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object", "embed", "base"})
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, name)
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", full))
    assert "@import" not in full
    policies = [attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_pictures_are_inlined_and_described(full):
    images = [attributes for tag, attributes in Page(full).tags if tag == "img"]
    assert len(images) == 1
    assert images[0]["alt"] == "photo 1 <i>: no errors <b>"
    assert images[0]["src"].startswith("data:image/jpeg;base64,/9j/")
    charts = [attributes["aria-label"] for tag, attributes in Page(full).tags if tag == "svg"]
    assert charts[:3] == [
        "Validation by epoch; last values: AP 0.375, AP50 nan",
        "Training loss by step; last values: loss 2.5",
        "Learning rate by step; last values: lr 0.01",
    ]
    assert charts[3] == "AP by class, from circle 0.625 to circle 0.625"


def test_ids_are_unique(full):
    ids = [attributes["id"] for _, attributes in Page(full).tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 8


def test_the_page_suits_phones_dark_rooms_and_paper(full):
    assert 'name="viewport"' in full
    assert "prefers-color-scheme: dark" in full
    assert "@media print" in full
    assert "var(--chart-1" in full
    assert "#0101" not in full


def test_large_pictures_are_brought_down(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1000, 4000, 3), dtype=np.uint8)
    details = Details((Gallery("big", "", [Picture("big", "", noise)]),))
    assert len(report(tmp_path, {}, details=details)) < 1_500_000


def test_missing_parts_leave_no_empty_sections(tmp_path):
    page = Page(report(tmp_path / "bare", {}, history=tmp_path / "absent.csv"))
    assert set(page.sections) == {"", "headline", "card"}
    assert not [tag for tag, _ in page.tags if tag in ("svg", "img")]
    assert "ssdlite_v2_shapes" in page.sections[""]


def test_an_evaluation_has_no_training(tmp_path):
    metrics = {key: METRICS[key] for key in ("coco", "evaluation")} | {"training": None}
    sections = Page(report(tmp_path, metrics)).sections
    assert set(sections) == {"", "headline", "card", "figures"}
    assert sections["headline"].endswith("Images 200 measured on")
    assert "Training" not in sections["card"]


def test_figures_of_other_tasks_are_shown_as_they_are(tmp_path):
    metrics = {"semantic": {"mIoU": 0.7251, "pixel_accuracy": 0.95, "images": 500}, "other": {"a": "text"}, "n": 3}
    assert [tile[:2] for tile in headline_tiles(run_record(metrics))][:2] == [
        ("mIoU", "0.725"),
        ("pixel_accuracy", "0.950"),
    ]
    figures = Page(report(tmp_path, metrics)).sections["figures"]
    meaning = "intersection over union, mean of the classes that are labelled somewhere"
    assert f"semantic mIoU 0.725 {meaning} pixel_accuracy 0.950" in figures
    assert "other" not in figures


def test_many_problems_fold(tmp_path):
    page = Page(report(tmp_path, {"problems": [f"problem {i}" for i in range(25)]}))
    assert [tag for tag, _ in page.tags].count("li") == 25
    assert "Problems (25)" in page.sections["problems"]
    assert "5 more" in page.sections["problems"]


def test_the_report_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    old = report(tmp_path, {"name": "first"})

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report(tmp_path, {"name": "second"})
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == old
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_parts_of_a_loss_that_are_zero_throughout_are_not_drawn():
    steps = [0.0, 1.0]
    svg = draw_losses({"train/loss": (steps, [2.0, 1.0]), "train/auxiliary": (steps, [0.0, 0.0])})
    assert "Training loss by step; last values: loss 1" in svg and "auxiliary" not in svg
    assert draw_losses({"train/auxiliary": (steps, [0.0, 0.0])}) is None
    assert "box 0" in draw_losses({"train/box": (steps, [1.0, 0.0])})


def test_history_without_its_blanks(history):
    found = read_history(history)
    assert list(found) == ["train/loss", "lr", "val/AP", "val/AP50"]
    assert found["train/loss"] == ([9, 19, 39], [4.5, 3.5, 2.5])
    assert found["lr"] == ([9], [0.01])
    assert found["val/AP"] == ([0, 1], [0.25, 0.375])


def test_an_empty_history_is_no_history(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("")
    assert read_history(path) == {}


def test_a_broken_history_names_its_line(history):
    history.write_text("step,train/loss\n9,1.5\n19,oops\n")
    with pytest.raises(UserError, match=r"metrics\.csv, line 3: 'oops' is no number"):
        read_history(history)
    history.write_text("image,score\n9,1.5\n")
    with pytest.raises(UserError, match=r"metrics\.csv is no training log: it has no column 'step'"):
        read_history(history)


def test_nothing_logged_draws_nothing():
    assert [draw({}) for draw in (draw_losses, draw_validation, draw_learning_rate, draw_class_bars)] == [None] * 4
    assert draw_class_bars({"a": {"AP": None}, "b": {}, "c": {"AP": float("nan")}}) is None


def test_parameter_groups_that_share_a_rate_are_one_line():
    rate = ([0.0, 1.0], [0.1, 0.05])
    svg = draw_learning_rate({"lr-SGD/pg1": rate, "lr-SGD/pg2": ([0.0, 1.0], [0.1, 0.05])})
    assert 'aria-label="Learning rate by step; last values: lr-SGD/pg1 0.05"' in svg
    assert "pg2" not in svg


def test_long_histories_get_a_running_mean_above_the_raw_values():
    steps = [float(i) for i in range(100)]
    noisy = [1.0 + (i % 2) for i in range(100)]
    assert draw_losses({"train/loss": (steps, noisy)}).count("stroke-opacity: 0.25") == 1
    assert "stroke-opacity" not in draw_losses({"train/loss": (steps[:20], noisy[:20])})


def test_charts_are_the_same_bytes_each_time():
    history = {"train/loss": ([0.0, 1.0], [2.0, 1.0])}
    assert draw_losses(history) == draw_losses(history)


@pytest.mark.filterwarnings("error")
def test_class_names_are_no_formulas_and_need_no_font_here():
    svg = draw_class_bars({"$\\frac{$": {"AP": 0.5}, "细胞": {"AP": 0.25}, "#010199": {"AP": 0.75}})
    for text in ("$\\frac{$", "细胞", "#010199"):
        assert f">{text}</text>" in svg
    assert svg.index(">#010199<") < svg.index(">$\\frac{$<") < svg.index(">细胞<")
