"""Reports in a real browser: nothing is wider than the page, the chooser redraws, and screenshots to look at.

The pictures lie in outputs/screenshots, which git ignores.
"""

from pathlib import Path

import numpy as np
import pytest
from chromium import Browser
from records import export_record, run_record
from test_chooser import STEPS
from test_html_report import LOG
from test_small_charts import CURVES

from seg_det.report.drawings import draw_boxes, side_by_side
from seg_det.report.exported import write_export_report
from seg_det.report.html import write_report
from seg_det.report.pictures import Details, Gallery, Picture

pytestmark = pytest.mark.slow
SCREENSHOTS = Path(__file__).parent.parent.parent / "outputs" / "screenshots"
WIDTHS = (1200, 375)
LONG = "a class with a rather long name, as in the wild"
FIGURES = (
    "AP",
    "AP50",
    "AP75",
    "VOC_AP50_all_point",
    "VOC_AP50_11_point",
    "best_threshold",
    "F1",
    "precision",
    "recall",
)
# Elements that reach beyond the window, those in a box that scrolls by itself left out.
BEYOND = """[...document.querySelectorAll("body *")]
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5 && !e.parentElement.closest(".scroll, pre, figure:target"))
  .map((e) => e.outerHTML.slice(0, 90))"""
CUT_OFF = """[...document.querySelectorAll(".scroll")]
  .filter((e) => e.scrollWidth > e.clientWidth + 1 && !e.querySelector(".confusion")).map((e) => e.innerText.slice(0, 90))"""
CELLS = """[...document.querySelectorAll("#confusion tbody tr")]
  .map((row) => [...row.cells].map((cell) => cell.textContent))"""


@pytest.fixture(scope="module")
def browser():
    found = Browser()
    yield found
    found.close()


def galleries():
    image = np.random.default_rng(0).integers(90, 160, (120, 160, 3), dtype=np.uint8)
    drawn = [draw_boxes(image, [[10, 20, 70, 90]], [0], [LONG], [0.5], wrong=[bad]) for bad in (False, True)]
    pair, single = side_by_side(*drawn), drawn[0]
    legend = [(f"{LONG} {i}", (20 * i, 90, 160)) for i in range(9)]
    return (
        Gallery(
            "The 5 worst images",
            "Most errors first.",
            [Picture("a_long_name" * 9 + ".jpg", "2 errors", pair)] * 5,
            legend,
        ),
        Gallery("The 7 best images", "Fewest errors.", [Picture("b.jpg", LONG, single)] * 7, small=True),
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A run with many classes, a run whose thresholds can be chosen, and an export."""
    folder = tmp_path_factory.mktemp("pages")
    log = folder / "metrics.csv"
    log.write_text(LOG)
    names = [LONG, *(f"class {n}" for n in range(29))]
    many = {
        "name": "x" * 60,
        "verb": "train",
        "coco": dict.fromkeys(("AP", "AP50", "AP75", "AR100"), 0.5),
        "error_counts": {"background": 123456},
        **{
            key: {"background": 0.25} for key in ("AP50_lost", "AP50_lost_small", "AP50_lost_medium", "AP50_lost_large")
        },
        "per_class": {name: dict.fromkeys(FIGURES, 0.5) for name in names},
        "confusion": {name: dict.fromkeys(names, 12345) for name in names},
        "precision_recall": {**CURVES, "per_class": dict.fromkeys(names, CURVES["per_class"]["cat"])},
        "cost": {"class_predictors": {"params": 123456789, "madds": 12345678901}},
        "anchors": [
            {
                "split": f"a data set {split}",
                "iou": 0.5,
                "sizes": {"all": {"objects": 123456, "matched": 0.5, "mean_iou": 0.5}},
                "histogram": [1] * 10,
            }
            for split in ("train", "val")
        ],
        "command": "python train.py " + " ".join(f"some.long.key={i}" for i in range(30)) + " " + "y" * 120,
        "environment": {"system": "z" * 80},
        "problems": ["w" * 200],
    }
    config = "key: " + "v" * 300
    few = {
        "per_class": {"cat": {"AP": 0.5}, "dog": {"AP": 0.5}},
        "confusion": named(STEPS[1].confusion),
        "operating_point": {"best_threshold": 0.5, "F1": 0.6, "precision": 0.75, "recall": 0.5},
    }
    steps = [step._replace(confusion=named(step.confusion)) for step in STEPS]
    return {
        "many": write_report(
            folder / "a", record=run_record(many), history=log, config=config, details=Details(galleries())
        ),
        "few": write_report(
            folder / "b", record=run_record(few), history=None, config="", details=Details(thresholds=steps)
        ),
        "export": write_export_report(
            folder / "c", name="e", record=export_record({"command": "c" * 99}), galleries=galleries()[:1]
        ),
    }


def named(confusion):
    """The confusion with a plain name for the hostile one."""
    other = {name: "dog" for row in (confusion, *confusion.values()) for name in row if "<" in name}
    return {other.get(a, a): {other.get(b, b): n for b, n in row.items()} for a, row in confusion.items()}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", ["many", "few", "export"])
def test_nothing_is_wider_than_the_page(browser, pages, page, width):
    for dark in (False, True):
        browser.open(pages[page], width=width, dark=dark)
        assert browser.ask("document.documentElement.scrollWidth") <= width
        assert browser.ask(BEYOND) == [] and browser.ask(CUT_OFF) == []
        assert browser.errors() == []
        browser.picture(SCREENSHOTS / f"report_{page}_{width}_{'dark' if dark else 'light'}.png")


def test_the_chooser_shows_what_the_metric_counts(browser, pages):
    browser.open(pages["few"], width=1200)
    first = browser.ask(CELLS)
    assert first == [["cat", "3", "", "1"], ["dog", "", "1", "1"], ["(background)", "", "", ""]]
    assert browser.ask("document.getElementById('chooser').hidden") is False
    assert "from the score 0.500 on: precision 0.750, recall 0.500, F1 0.600" in figures(browser)
    choose(browser, 0)
    assert browser.ask(CELLS) == [["cat", "3", "1", ""], ["dog", "", "2", ""], ["(background)", "9", "", ""]]
    assert "from the score 0.25 on: precision 0.500, recall 1.000, F1 0.667" in figures(browser)
    assert browser.ask("document.querySelector('#confusion td').style.getPropertyValue('--share')") == "0.75"
    choose(browser, 2)
    assert browser.ask(CELLS) == [["cat", "", "", "4"], ["dog", "", "", "2"], ["(background)", "", "", ""]]
    assert "precision -, recall 0.000" in figures(browser)
    browser.ask("document.getElementById('threshold-best').click()")
    assert browser.ask(CELLS) == first and "from the score 0.500 on" in figures(browser)


def figures(browser):
    return browser.ask("document.getElementById('threshold-figures').textContent")


def choose(browser, step):
    browser.ask(
        f"(() => {{ const s = document.getElementById('threshold'); s.value = {step}; s.dispatchEvent(new Event('input')) }})()"
    )


def test_a_picture_is_enlarged_and_made_small_again(browser, pages):
    browser.open(pages["many"], width=1200)
    width = "document.querySelector('#pictures-1-2 img').getBoundingClientRect().width"
    before = browser.ask(width)
    browser.ask("document.querySelector('#pictures-1-2 a').click()")
    assert browser.ask(width) > 1.8 * before
    browser.ask("document.querySelector('#pictures-1-2 .back').click()")
    assert browser.ask(width) == before


def test_a_script_that_is_not_the_page_s_own_does_not_run(browser, pages, tmp_path):
    text = pages["few"].read_text().replace("<main>", "<main><script>document.title = 'taken over'</script>")
    copy = tmp_path / "report.html"
    copy.write_text(text)
    browser.open(copy, width=1200)
    assert browser.ask("document.title") != "taken over"
    assert any("Content Security Policy" in message for message in browser.errors())
