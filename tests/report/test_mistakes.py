"""What a model gets wrong, in the report and in the terminal."""

import pytest
from records import figures, run_record
from test_html_report import HOSTILE, Page, report

from seg_det.report import terminal
from seg_det.report.mistakes import confusion_matrix


def test_the_errors_are_one_table_by_kind_and_size(tmp_path):
    sizes = {
        f"AP50_lost_{size}": {"missed": lost} for size, lost in (("small", 0.125), ("medium", 0.0), ("large", None))
    }
    metrics = {"error_counts": {"missed": 1200}, "AP50_lost": {"missed": 0.25}, **sizes}
    sections = Page(report(tmp_path, metrics)).sections
    assert "error count AP50 lost on small on medium on large what it is" in sections["mistakes"]
    assert "missed 1,200 0.250 0.125 0.000 - objects that nothing was about" in sections["mistakes"]
    assert "figures" not in sections


def test_the_confusion_of_a_detector(tmp_path):
    confusion = {"cat": {"cat": 3, HOSTILE: 1}, HOSTILE: {"(missed)": 2}, "(background)": {"cat": 1500}}
    page = report(tmp_path, {"per_class": {"cat": {}, HOSTILE: {}}, "confusion": confusion})
    sections = Page(page).sections
    text = sections["confusion"]
    titled = "Which is taken for which, detections: labelled as the row, predicted as the column"
    assert sections["confusion-title"] == titled
    assert text == (f"cat {HOSTILE} (missed) cat 3 1 {HOSTILE} 2 (background) 1,500")
    assert '<td class="right" style="--share:0.750">3</td><td style="--share:0.250">1</td><td></td>' in page
    assert "left out" not in text


def test_the_confusion_of_a_segmenter_is_in_per_cent():
    matrix = confusion_matrix(figures(per_class={"road": {}, "sky": {}}, confusion=[[1996, 4], [1, 9999]]))
    assert matrix.unit == "% of the pixels" and matrix.columns == ["road", "sky"]
    assert [(name, [cell.text for cell in cells]) for name, cells in matrix.rows] == [
        ("road", ["99.8", "0.2"]),
        ("sky", ["", "100.0"]),  # a ten-thousandth would read 0.0
    ]


def test_of_many_classes_those_that_are_confused_most_are_shown(tmp_path):
    confusion = {name: {name: 9} for name in "abcd"} | {"d": {"b": 2, "d": 9}, "a": {"a": 9, "(missed)": 50}}
    metrics = {"per_class": {name: {} for name in "abcd"}, "confusion": confusion}
    matrix = confusion_matrix(figures(**metrics), most=2)
    assert (matrix.columns, [name for name, _ in matrix.rows], matrix.hidden) == (["b", "d", "(missed)"], ["b", "d"], 2)
    # the share is that of the whole row, columns that are left out among them
    assert [cell.share for cell in dict(matrix.rows)["d"]] == pytest.approx([2 / 11, 9 / 11, 0])
    many = {"per_class": {str(n): {} for n in range(30)}, "confusion": {"0": {"1": 1}}}
    assert "The 6 classes that are confused least are left out" in Page(report(tmp_path, many)).sections["mistakes"]


@pytest.mark.parametrize("confusion", [None, {}, {"a": {}}, [], [[0]]])
def test_nothing_confused_is_no_matrix(confusion):
    assert confusion_matrix(figures(per_class={"a": {}}, confusion=confusion)) is None
    assert confusion_matrix(figures(confusion=[[1]])) is None


def test_the_terminal_has_the_errors_too():
    metrics = {"per_class": {"cat": {"AP": 0.5}}, "error_counts": {"missed": 3}, "AP50_lost": {"missed": 0.25}}
    metrics = run_record(metrics)
    assert "error   count  AP50 lost" in terminal.figures(metrics)
    assert "missed      3     0.2500" in terminal.figures(metrics)
