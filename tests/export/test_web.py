"""target=web without a browser: what is written, from where, and that names in a card stay text."""

import base64
import hashlib
import json
import re
from functools import cache
from html.parser import HTMLParser

import numpy as np
import onnx
import pytest
from commands import run
from export_cells import slow
from PIL import Image
from web_exports import data_keys, export_web, imitate_npm, told

import seg_det
from seg_det.data.images import read_rgb
from seg_det.errors import UserError
from seg_det.export import npm, web
from seg_det.export.web import WebTarget
from seg_det.predict.exported import targets
from seg_det.types import Category, ModelCard

pytest.importorskip("onnxruntime")

NAMES = ("</script><img src=x onerror=alert(1)>", "<!--<script>", "'\"&amp;\u2028 \\", "köök {{ told }}")


def card(names=NAMES, task="detection", **more):
    categories = tuple(Category(i + 1, name) for i, name in enumerate(names))
    return ModelCard(task, "a<b>&c", {}, {}, categories, (64, 96), (0.0,) * 3, (255.0,) * 3, **more)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny_shapes, tiny_imagefolder):
    """The web folder of a kind and what the command printed, each made when it is first asked for."""
    folder = tmp_path_factory.mktemp("web")

    @cache
    def made(kind):
        with pytest.MonkeyPatch.context() as patch:
            imitate_npm(folder / "npm", patch)
            return export_web(folder, kind, data_keys(kind, tiny_shapes, tiny_imagefolder), "verification.images=4")

    return made


class _Page(HTMLParser):
    """The elements of a page with their attributes, and the text inside each script and style."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.inside, self.open = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside.append("")
        self.open = True

    def handle_data(self, data):
        if self.open:
            self.inside[-1] += data

    def handle_endtag(self, tag):
        self.open = False


@pytest.mark.parametrize("kind", ["detection", *slow("segmentation", "classification")])
def test_the_folder(exported, kind):
    folder, done = exported(kind)
    runtime = [f"ort/{name}" for name in npm.FILES]
    files = ["model.onnx", "model.json", "index.html", *runtime, *(f"examples/{i}.jpg" for i in (1, 2, 3))]
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == sorted(files)
    record = json.loads((folder.parent / "export.json").read_text())
    assert record["files"] == [f"web/{name}" for name in files]
    assert (record["target"], record["pipeline"], record["accepted"]) == ("web", "full", True)
    assert f"To open the page: python -m http.server -d {folder.relative_to(folder.parents[4])}" in done.stdout
    assert all((folder / "ort" / name).read_text() == f"text of {name}" for name in npm.FILES)


@pytest.mark.parametrize("kind", ["detection", *slow("segmentation", "classification")])
def test_the_model_is_an_ordinary_onnx_file(exported, kind):
    folder, _ = exported(kind)
    assert targets()[".onnx"].name == "onnx" and "web" not in {target.name for target in targets().values()}
    model = seg_det.load(folder / "model.onnx")
    assert model.card.task == kind
    assert model(folder / "examples" / "1.jpg").size == read_rgb(folder / "examples" / "1.jpg").shape[:2]


@pytest.mark.parametrize("kind", ["detection", "segmentation", "classification"])
def test_nothing_is_computed_in_64_bits(exported, kind):
    """The WebGPU build of ONNX Runtime Web has no kernels for float64; the graph of target=onnx has it in its resizing."""
    model = onnx.load(exported(kind)[0] / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    known = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {info.type.tensor_type.elem_type for info in (*known.value_info, *known.output)}
    assert onnx.TensorProto.FLOAT in types and onnx.TensorProto.DOUBLE not in types
    assert onnx.TensorProto.DOUBLE not in {tensor.data_type for tensor in known.initializer}


def test_evaluate_takes_the_file_in_the_folder(exported, tiny_shapes, tiny_imagefolder):
    folder, _ = exported("segmentation")
    data = data_keys("segmentation", tiny_shapes, tiny_imagefolder)
    done = run(folder.parents[4], "evaluate", f"model={folder / 'model.onnx'}", *data, "data.num_workers=0")
    assert "mIoU" in done.stdout


def test_what_the_page_is_told(exported):
    folder, _ = exported("detection")
    model_card = seg_det.load(folder / "model.onnx").card
    page = told(folder)
    assert page["outputs"] == ["boxes", "scores", "labels", "count"] and page["missing"] == ""
    assert [(c["id"], c["name"]) for c in page["classes"]] == [(c.id, c.name) for c in model_card.categories]
    assert page["classes"][0]["colour"] == "rgb(230,159,0)"  # as drawings have it
    assert page["examples"] == ["examples/1.jpg", "examples/2.jpg", "examples/3.jpg"]
    masks = told(exported("segmentation")[0])
    assert masks["outputs"] == ["mask"]
    assert [c["colour"] for c in masks["classes"]][:2] == ["rgb(0,0,0)", "rgb(128,0,0)"]
    assert told(exported("classification")[0])["outputs"] == ["scores"]


def test_thresholds_are_the_card_s(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"0" * 1_500_000)
    content = web.content(card(score_thresholds=(0.4, None, 0.2, 0.9)), tmp_path / "model.onnx", [], "")
    assert [one["threshold"] for one in content["classes"]] == [0.4, None, 0.2, 0.9]
    assert (content["threshold"], content["megabytes"], content["inputSize"]) == (0.3, 1.5, [64, 96])
    without = web.content(card(), tmp_path / "model.onnx", [], "")
    assert {one["threshold"] for one in without["classes"]} == {None}


def test_hostile_names_stay_text(tmp_path):
    (tmp_path / "model.onnx").touch()
    content = web.content(card(), tmp_path / "model.onnx", [], "<b>no npm</b>")
    text = web.page(content)
    page = _Page(text)
    assert [tag for tag, _ in page.elements].count("img") == 0 and "<b>" not in text
    scripts = [(a, inside) for (tag, a), inside in zip(page.elements, page.inside, strict=True) if tag == "script"]
    assert [a.get("type") for a, _ in scripts] == ["application/json", "module"]
    assert json.loads(scripts[0][1]) == content
    assert [one["name"] for one in content["classes"]] == list(NAMES)
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    assert not set("<>&'\u2028") & set(web.in_script(content))


def test_the_page_asks_for_nothing_outside_its_folder(exported):
    text = (exported("detection")[0] / "index.html").read_text()
    page = _Page(text)
    assert set(re.findall(r"\w+://[\w.:]+\w", text)) == {"http://localhost", "http://localhost:8000"}  # of sentences
    assert not re.search(r"""["'(`]//""", text)
    sources = [a[key] for _, a in page.elements for key in ("src", "href", "srcset", "action") if key in a]
    assert sources == ["data:,"]
    (policy,) = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert (
        "default-src 'none'" in policy and "unsafe-inline" not in policy and "*" not in policy and "http" not in policy
    )
    for (tag, attributes), inside in zip(page.elements, page.inside, strict=True):
        if tag == "style" or attributes.get("type") == "module":
            digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy


def test_without_npm_the_export_succeeds_and_the_page_says_so(tmp_path, tiny_shapes, monkeypatch):
    imitate_npm(tmp_path / "npm", monkeypatch)
    monkeypatch.setattr(npm.shutil, "which", lambda name: None)
    folder, done = export_web(
        tmp_path,
        "segmentation",
        data_keys("segmentation", tiny_shapes, None),
        "verification.images=1",
        "target.examples=0",
    )
    sentence = (
        "The page cannot run yet: onnxruntime-web 1.30.0 is missing, since npm is not installed. "
        "Install Node.js, which has npm, and export again with a network."
    )
    assert told(folder)["missing"] == sentence and sentence in done.stdout
    assert not (folder / "ort").exists() and not (folder / "examples").exists()
    assert seg_det.load(folder / "model.onnx").card.task == "segmentation"
    assert sentence in json.loads((folder.parent / "export.json").read_text())["notes"]


def test_without_a_network_npm_s_own_words_are_told(tmp_path, monkeypatch):
    imitate_npm(tmp_path / "npm", monkeypatch, fault="\nnpm error code ENOTFOUND\nnpm error network\n")
    with pytest.raises(npm.RuntimeUnavailable, match=r"since npm pack failed \(npm error code ENOTFOUND\)"):
        npm.kept_runtime()


def test_the_runtime_is_fetched_once_and_again_where_it_was_altered(tmp_path, monkeypatch):
    folder = imitate_npm(tmp_path / "npm", monkeypatch)
    for _ in range(2):
        assert npm.copy_runtime(tmp_path / "ort") == list(npm.FILES)
    (call,) = (folder / "calls").read_text().splitlines()
    assert call.startswith("pack onnxruntime-web@1.30.0 --pack-destination ")
    kept = npm.kept_runtime() / "ort.wasm.bundle.min.mjs"
    kept.write_text("altered")
    npm.copy_runtime(tmp_path / "ort")
    assert kept.read_text() == (tmp_path / "ort" / kept.name).read_text() == f"text of {kept.name}"
    assert len((folder / "calls").read_text().splitlines()) == 2
    assert {path.name for path in kept.parent.iterdir()} == set(npm.FILES)


def test_other_files_than_the_expected_ones_are_refused(tmp_path, tiny_shapes, monkeypatch):
    name = "ort-wasm-simd-threaded.wasm"
    imitate_npm(tmp_path / "npm", monkeypatch, {name: b"something else"})
    with pytest.raises(
        UserError, match=rf"npm gave another {name} of onnxruntime-web 1.30.0 \(sha256 [0-9a-f]{{64}}, not"
    ):
        npm.copy_runtime(tmp_path / "ort")
    assert not any((tmp_path / "npm" / "cache").rglob("*.mjs")) and not (tmp_path / "ort").exists()
    folder, done = export_web(
        tmp_path, "segmentation", data_keys("segmentation", tiny_shapes, None), "verification.images=1", check=False
    )
    assert done.returncode == 1 and "npm gave another" in done.stderr and "Traceback" not in done.stderr
    assert not list(folder.glob("*"))  # before the conversion


def test_a_package_that_lacks_a_file(tmp_path, monkeypatch):
    imitate_npm(tmp_path / "npm", monkeypatch, {"ort.webgpu.bundle.min.mjs": None})
    with pytest.raises(UserError, match="npm gave onnxruntime-web 1.30.0 without a readable ort.webgpu.bundle.min.mjs"):
        npm.kept_runtime()


def test_the_checksums_name_what_npm_has():
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in npm.FILES.values())
    scripts = (web.resources.files("seg_det.export") / "page" / "runtime.js").read_text()
    asked = set(re.findall(r'script: "([^"]+)"', scripts))
    assert asked == {name for name in npm.FILES if name.endswith(".mjs")}


def test_a_rejected_file_has_no_page(tmp_path, tiny_shapes, monkeypatch):
    imitate_npm(tmp_path / "npm", monkeypatch)
    keys = ["precision=int8", "calibration.images=2", "verification.images=2", "tolerance=1e-9"]
    data = data_keys("segmentation", tiny_shapes, None)
    folder, done = export_web(tmp_path, "segmentation", data, *keys, check=False)
    assert done.returncode == 1 and "web/model.rejected was rejected" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.rejected"]


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("pipeline=raw", "target=web has pipeline=full, got 'raw'"),
        ("target.examples=-1", "target.examples must be a number of images from 0, got -1"),
        ("target.observer=mse", "target.observer must be one of minmax, percentile, entropy, got 'mse'"),
    ],
)
def test_mistakes_get_one_sentence(tmp_path, tiny_shapes, key, sentence):
    data = data_keys("segmentation", tiny_shapes, None)
    done = run(tmp_path, "export", f"model={web_model('segmentation')}", "target=web", *data, key, check=False)
    assert done.returncode == 1 and sentence in done.stderr


def web_model(kind):
    from web_exports import EARLIER

    return EARLIER / kind


def test_examples_are_upright_small_and_from_all_over(tmp_path):
    for i in range(9):
        picture = Image.fromarray(np.full((400, 1200 if i == 1 else 300, 3), 20 * i, np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees
        picture.save(tmp_path / f"{i}.jpg", exif=exif)
    images = [tmp_path / f"{i}.jpg" for i in range(9)]
    assert [path.stem for path in web._spread(images, 3)] == ["1", "4", "7"]
    assert web._spread(images, 20) == images and web._spread([], 3) == []
    assert web._example(tmp_path, 1, images[1]) == "examples/1.jpg"
    assert read_rgb(tmp_path / "examples" / "1.jpg").shape == (960, 320, 3)
    assert WebTarget(examples=0).examples == 0
