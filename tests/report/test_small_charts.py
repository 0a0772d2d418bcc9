"""The charts of single classes: their points by hand, and which are left out of too many."""

import pytest
from records import figures
from test_html_report import HOSTILE, Page, report

from seg_det.report.small import MOST, history_charts, precision_recall_charts

CURVES = {
    "recall": [0.0, 0.25, 0.5, 0.75, 1.0],
    "overall": {"IoU 0.50": [1.0, 1.0, 0.75, 0.5, 0.0], "IoU 0.50:0.95": [0.5, 0.5, 0.25, 0.25, 0.0]},
    "per_class": {
        "cat": {"IoU 0.50": [1.0, 1.0, 1.0, 0.75, 0.0], "IoU 0.50:0.95": [0.5] * 5},
        HOSTILE: {"IoU 0.50": [1.0, 0.75, 0.5, 0.25, 0.0], "IoU 0.50:0.95": [0.0] * 5},
    },
}
METRICS = {
    "per_class": {"cat": {"AP": 0.5, "AP50": 0.75}, HOSTILE: {"AP": 0.0, "AP50": 0.5}, "dog": {"AP": None}},
    "precision_recall": CURVES,
}


def test_points_on_a_line_are_left_out():
    cat, other = precision_recall_charts(figures(**METRICS)).charts
    assert (cat.title, cat.value, cat.description) == ("cat", "0.750", "cat 0.750")
    assert [line.name for line in cat.lines] == ["IoU 0.50", "IoU 0.50:0.95"]
    assert cat.lines[0].points == "0,0 50,0 75,25 100,100"
    assert cat.lines[1].points == "0,50 100,50"
    assert other.lines[0].points == "0,0 100,100"


def test_the_report_has_the_curves_of_all_and_of_each_class(tmp_path):
    html = report(tmp_path, METRICS)
    page = Page(html)
    charts = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    assert charts[1:] == [
        "Precision over recall, mean of the classes by recall; last values: IoU 0.50 0, IoU 0.50:0.95 0",
        "cat 0.750",
        f"{HOSTILE} 0.500",
    ]
    assert html.count("<polyline") == 4
    assert "Precision (upwards) over recall (to the right) of each class" in page.sections["classes"]


def test_of_too_many_classes_the_worst_are_shown():
    count = MOST + 20
    metrics = {
        "per_class": {str(n): {"AP50": n / count} for n in range(count)},
        "precision_recall": {"recall": [0, 1], "per_class": {str(n): {"IoU 0.50": [1, 0]} for n in range(count)}},
    }
    found = precision_recall_charts(figures(**metrics))
    assert [chart.title for chart in found.charts] == [str(n) for n in range(MOST)] and found.hidden == 20


def test_the_figure_of_each_class_over_the_epochs():
    history = {
        "val/IoU/road": ([0.0, 1.0, 2.0], [0.25, 0.5, 1.0]),
        "val/IoU/a/b": ([1.0, 2.0], [0.5, 0.5]),
        "val/IoU/once": ([2.0], [0.5]),
        "val/mIoU": ([0.0, 1.0], [0.1, 0.2]),
        "train/loss": ([0.0, 1.0], [0.1, 0.2]),
    }
    road, other = history_charts(history, "IoU").charts
    assert (road.title, road.value, road.lines[0].points) == ("road", "1.000", "0,75 50,50 100,0")
    assert (other.title, other.lines[0].points) == ("a/b", "50,50 100,50")
    assert history_charts({}, "IoU") == history_charts(history, "AP") == ([], 0)


def test_numbers_that_are_none_are_no_points():
    history = {"val/AP/cat": ([0.0, 1.0, 2.0], [float("nan"), 0.5, 0.5])}
    assert history_charts(history, "AP").charts[0].lines[0].points == "50,50 100,50"


@pytest.mark.parametrize("metrics", [{}, {"precision_recall": {"recall": [0], "overall": {}, "per_class": {}}}])
def test_without_curves_there_is_no_chart(metrics):
    assert precision_recall_charts(figures(**metrics)) == ([], 0)
