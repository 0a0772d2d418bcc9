"""The score threshold that a reader chooses: what travels in the page is the metric's own confusion at each step."""

import base64
import hashlib
import json
import re

import pytest
from test_html_report import HOSTILE, Page, report

from seg_det.metrics.thresholds import AtThreshold
from seg_det.report.chooser import choices
from seg_det.report.page import script_text
from seg_det.report.pictures import Details

STEPS = (
    AtThreshold(
        0.25, 0.5, 1.0, 0.6667, {"cat": {"cat": 3, HOSTILE: 1}, HOSTILE: {HOSTILE: 2}, "(background)": {"cat": 9}}
    ),
    AtThreshold(0.5, 0.75, 0.5, 0.6, {"cat": {"cat": 3, "(missed)": 1}, HOSTILE: {HOSTILE: 1, "(missed)": 1}}),
    AtThreshold(0.75, None, 0.0, 0.0, {"cat": {"(missed)": 4}, HOSTILE: {"(missed)": 2}}),
)
METRICS = {
    "per_class": {"cat": {"AP": 0.5}, HOSTILE: {"AP": 0.25}},
    "confusion": STEPS[1].confusion,
    "operating_point": {"best_threshold": 0.5, "F1": 0.6, "precision": 0.75, "recall": 0.5},
}


def value(runs, step):
    """What the page's script reads off."""
    found = 0
    for at, count in zip(runs[::2], runs[1::2], strict=True):
        found = count if at <= step else found
    return found


def embedded(html):
    (text,) = re.findall(r'<script type="application/json" id="confusion-data">(.*?)</script>', html, re.DOTALL)
    return json.loads(text)


@pytest.fixture
def page(tmp_path):
    return report(tmp_path, METRICS, details=Details(thresholds=iter(STEPS)))


def test_every_step_can_be_read_off(page):
    data = embedded(page)
    rows, columns = ["cat", HOSTILE, "(background)"], ["cat", HOSTILE, "(missed)"]
    assert data["thresholds"] == [0.25, 0.5, 0.75] and data["start"] == 0.5 and data["best"] == [0.75, 0.5, 0.6]
    assert data["points"] == [[0.5, 1.0, 0.6667], [0.75, 0.5, 0.6], [None, 0.0, 0.0]]
    for step, at in enumerate(STEPS):
        found = {}
        for row, column, runs in data["cells"]:
            if count := value(runs, step):
                found.setdefault(rows[row], {})[columns[column]] = count
        assert found == at.confusion
        totals = [value(runs, step) for runs in data["totals"]]
        assert totals == [sum(at.confusion.get(name, {}).values()) for name in rows]


def test_the_table_has_the_rows_and_columns_of_every_threshold(page):
    text = Page(page).sections["confusion"]  # the false detections are there at 0.25 alone
    assert text == f"cat {HOSTILE} (missed) cat 3 1 {HOSTILE} 1 1 (background)"
    assert Page(page).sections["confusion-at"] == ", from the score 0.500 on, where F1 is best"


def test_the_page_s_policy_lets_this_script_run_and_no_other(page):
    tags = Page(page).tags
    (policy,) = [attributes["content"] for tag, attributes in tags if "http-equiv" in attributes]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert scripts == [script_text()]
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert [attributes.get("type") for tag, attributes in tags if tag == "script"] == ["application/json", None]
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)


def test_without_scripts_the_chooser_is_hidden_and_the_table_is_there(page):
    (chooser,) = [attributes for _, attributes in Page(page).tags if attributes.get("id") == "chooser"]
    assert "hidden" in chooser


def test_a_run_without_choices_has_no_script(tmp_path):
    html = report(tmp_path, METRICS)
    assert "<script" not in html and "script-src" not in html and 'id="chooser"' not in html
    assert "cat 3 1" in Page(html).sections["confusion"]


def test_nothing_right_has_no_best_threshold(tmp_path):
    metrics = {**METRICS, "operating_point": {"best_threshold": None, "F1": 0.0, "precision": None, "recall": 0.0}}
    html = report(tmp_path, metrics, details=Details(thresholds=STEPS))
    assert embedded(html)["start"] is None and 'id="confusion-at"' not in html


def test_classes_that_are_left_out_count_in_their_rows():
    found = choices(STEPS, hidden={HOSTILE})
    assert found.names == (["cat", "(background)"], ["cat", "(missed)"])
    assert found.totals["cat"] == [0, 4]  # the one taken for the hidden class among them
    assert choices((), hidden=()) is None


def test_what_travels_is_bounded(tmp_path):
    names = [f"class {n}" for n in range(90)]

    def table(n):
        return {a: {b: (7 * i + 3 * j + n) % 9 for j, b in enumerate(names)} for i, a in enumerate(names)}

    steps = [AtThreshold(n / 100, 0.5, 0.5, 0.5, table(n)) for n in range(1, 100)]
    metrics = {"per_class": {name: {"AP": 0.5} for name in names}, "confusion": steps[0].confusion}
    html = report(tmp_path, metrics, details=Details(thresholds=steps))
    assert len(embedded(html)["cells"]) == 24 * 24  # of 8,100, each of which changes at every step
    assert len(html) < 700_000
