"""The app sources next to exports: filled in from the card, whole, and safe with names of any kind."""

import ast
import re
import shutil

import pytest
from export_cells import CELLS

from seg_det.export import snippets
from seg_det.export.coreml import CoreMlTarget
from seg_det.export.litert import LiteRtTarget
from seg_det.export.onnx import OnnxTarget
from seg_det.export.pipeline import completed
from seg_det.types import Category, ModelCard

NAMES = ("cat", 'the "big" $dog', "back\\slash \\(x) ${1}", "köök\n", "\x07bell")
LANGUAGES = {"kt": LiteRtTarget(), "swift": CoreMlTarget()}
EXPORT = {"pipeline": "normalised", "input": "images"}


def card_of(task, resize):
    categories = tuple(Category(i, name) for i, name in enumerate(NAMES))
    card = ModelCard(
        task, "my-model 2", {}, {}, categories, (97, 131), (120.4, 116.0, 103.6), (58.0,) * 3, resize=resize
    )
    return completed(
        card.replace(postprocess={"max_detections": 37, "score_threshold": 0.07} if task == "detection" else {}),
        "normalised",
    )


def rendered(language, task="detection", resize="stretch"):
    target = LANGUAGES[language]
    return snippets.source(target, card_of(task, resize), EXPORT, f"my-model 2_fp32{target.suffix}")


def code(text):
    """Without comments and the insides of strings."""
    text = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("task,resize", [CELLS[name][::3] for name in CELLS])
def test_brackets_pair_and_nothing_is_left_open(language, task, resize):
    text = rendered(language, task, resize)
    assert "{{" not in text and "{%" not in text and "None" not in text
    stack = []
    for letter in code(text):
        if letter in "([{":
            stack.append(letter)
        elif letter in ")]}":
            assert stack.pop() + letter in ("()", "[]", "{}")
    assert not stack and '"' not in code(text).replace('""', "")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_card_s_figures(language):
    text = rendered(language)
    figures = {
        "kt": ("HEIGHT = 97\n", "WIDTH = 131\n", "MAX_DETECTIONS = 37\n", "SCORE_THRESHOLD = 0.07f\n"),
        "swift": ("height = 97\n", "width = 131\n", "scoreThreshold: Float = 0.07\n"),
    }
    assert all(text.count(figure) == 1 for figure in figures[language])
    assert {"kt": "floatArrayOf(120f, 116f, 104f)", "swift": "[120, 116, 104]"}[language] in text
    assert "class MyModel2Fp32" in text
    assert {"kt": 'FILE = "my-model 2_fp32.tflite"', "swift": 'forResource: "my-model 2_fp32"'}[language] in text


def test_names_are_literals_of_their_language():
    found = {one: re.findall(r'^ +(".*"),$', rendered(one), re.MULTILINE) for one in LANGUAGES}
    assert found["kt"] == [
        '"cat"',
        r'"the \"big\" \$dog"',
        r'"back\\slash \\(x) \${1}"',
        r'"köök\u000a"',
        r'"\u0007bell"',
    ]
    assert found["swift"] == [
        '"cat"',
        r'"the \"big\" $dog"',
        r'"back\\slash \\(x) ${1}"',
        r'"köök\u{a}"',
        r'"\u{7}bell"',
    ]
    kotlin = [ast.literal_eval(literal.replace(r"\$", "$")) for literal in found["kt"]]
    assert kotlin == list(NAMES)  # read back as what they say


@pytest.mark.parametrize(
    ("stem", "name"),
    [("ssdlite_v2_shapes_fp32", "SsdliteV2ShapesFp32"), ("2-fast", "Model2Fast"), ("köök", "KK"), ("µ", "Model")],
)
def test_class_names(stem, name):
    assert snippets.class_name(stem) == name


def test_what_is_written(tmp_path):
    card, path = card_of("detection", "stretch"), tmp_path / "d_fp32.tflite"
    assert snippets.write(LiteRtTarget(), card, EXPORT, path) == ["DFp32.kt"]
    assert (tmp_path / "DFp32.kt").read_text() == snippets.source(LiteRtTarget(), card, EXPORT, "d_fp32.tflite")
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    assert snippets.write(OnnxTarget(), card, EXPORT, tmp_path / "d.onnx") == []
    assert snippets.write(LiteRtTarget(), card, {**EXPORT, "pipeline": "raw"}, path) == []
    assert not list(tmp_path.iterdir())
