"""The page of target=web in a real browser: what it finds is what the file finds, with the mouse, the keyboard and a camera."""

import contextlib
import re
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from browser import CAMERA, SOFTWARE_WEBGPU, Opened, chromium, driver, require_runtime, served
from commands import run
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from web_exports import data_keys, export_web

import seg_det
from seg_det.data.images import read_rgb
from seg_det.data.shapes import generate_shapes
from seg_det.export import npm
from seg_det.export.web import content, page
from seg_det.ops.boxes import iou
from seg_det.types import Category

onnxruntime = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

KINDS = ("detection", "segmentation", "classification")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browsers():
    with driver() as started:
        require_runtime()
        yield started


@pytest.fixture(scope="module")
def browser(browsers):
    with chromium(browsers, *CAMERA) as found:
        yield found


@pytest.fixture(scope="module")
def folders(browser, tmp_path_factory, tiny_shapes, tiny_imagefolder):
    """The web folder of a kind, exported with the real onnxruntime-web when it is first asked for."""
    folder = tmp_path_factory.mktemp("page")

    @cache
    def made(kind):
        return export_web(folder, kind, data_keys(kind, tiny_shapes, tiny_imagefolder), "verification.images=4")[0]

    return made


@pytest.fixture(scope="module")
def sites(folders):
    """The address at which that folder is served."""
    with contextlib.ExitStack() as stack:
        yield cache(lambda kind: stack.enter_context(served(folders(kind))))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, tiny_shapes, tiny_imagefolder):
    """Images of each kind as PNG, which every program decodes alike."""
    folder, found = tmp_path_factory.mktemp("pictures"), {}
    colours = sorted((tiny_imagefolder / "val").rglob("*.JPEG"))[::4]
    shapes = sorted((tiny_shapes / "images" / "val").glob("*.jpg"))[:4]
    for kind, paths in (("detection", shapes), ("segmentation", shapes), ("classification", colours)):
        found[kind] = [folder / f"{kind}_{i}.png" for i in range(len(paths))]
        for path, png in zip(paths, found[kind], strict=True):
            Image.open(path).save(png)
    return found


def boxes_of(rows):
    xywh = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)


def require_same_boxes(rows, result):
    """Each object of the file has one on the page with its class, IoU above 0.99 and a score within 0.01; none is left over."""
    assert len(rows) == len(result.boxes)
    overlaps = iou(torch.from_numpy(boxes_of(rows)), torch.from_numpy(result.boxes).double()).numpy()
    same = np.array([row["category_id"] for row in rows])[:, None] == result.ids[None]
    close = np.abs(np.array([row["score"] for row in rows])[:, None] - result.scores[None]) < 0.01
    fits, free = (overlaps > 0.99) & same & close, np.ones(len(rows), bool)
    for column in range(len(result.boxes)):
        candidates = np.flatnonzero(fits[:, column] & free)
        assert len(candidates), f"{result.names[column]} {result.scores[column]:.3f} {result.boxes[column]}"
        free[candidates[np.argmax(overlaps[candidates, column])]] = False


def mask_of(rows, card, size):
    """The class indices that rows of one image cover, 255 where none does."""
    mask = np.full(size, 255, np.uint8)
    index = {category.id: i for i, category in enumerate(card.categories)}
    for row in rows:
        height, width = row["segmentation"]["size"]
        mask[rle.decode(rle.frPyObjects(row["segmentation"], height, width)).astype(bool)] = index[row["category_id"]]
    return mask


def require_same(kind, rows, result, card):
    if kind == "detection":
        require_same_boxes(rows, result)
    elif kind == "segmentation":
        found = mask_of(rows, card, result.mask.shape)
        assert (found == result.mask).mean() > 0.999
        for label in np.unique(result.mask):
            wanted = result.mask == label
            if wanted.sum() > 100:
                assert (wanted & (found == label)).sum() / (wanted | (found == label)).sum() > 0.99
    else:
        assert [row["category_id"] for row in rows] == result.ids.tolist()
        np.testing.assert_allclose([row["score"] for row in rows], result.scores[result.labels], atol=0.01)


def by_file(rows, paths):
    return [[row for row in rows if row["file_name"] == path.name] for path in paths]


@pytest.mark.parametrize("kind", ["detection", "segmentation", pytest.param("classification", marks=pytest.mark.slow)])
def test_the_page_finds_what_the_file_finds(browser, folders, sites, pictures, kind):
    model = seg_det.load(folders(kind) / "model.onnx")
    with Opened(browser, sites(kind)) as opened:
        assert opened.state == "ready", opened.text("notices")
        assert opened.text("summary") and float(opened.text("ms")) > 0  # of the first example
        opened.drop(pictures[kind])
        if kind != "segmentation":
            opened.everything()
        rows = opened.saved()
        for found, path in zip(by_file(rows, pictures[kind]), pictures[kind], strict=True):
            require_same(kind, found, model(path, score_threshold=0), model.card)
        assert opened.tab.locator("#results button").count() == len(pictures[kind])
        assert opened.faults == []
        assert {urlsplit(address).netloc for address in opened.asked} <= {urlsplit(sites(kind)).netloc, ""}


def test_thresholds_and_classes_leave_out_what_they_should(browser, folders, sites, pictures):
    model = seg_det.load(folders("detection") / "model.onnx")
    (path,) = pictures["detection"][:1]
    with Opened(browser, sites("detection")) as opened:
        opened.drop([path])
        opened.everything()
        scores = sorted({round(row["score"], 3) for row in opened.saved()})
        middle = round(scores[len(scores) // 2], 2)
        opened.tab.locator("#slider").fill(str(middle))
        wanted = model(path, score_threshold=middle)
        assert len(opened.saved()) == len(wanted.boxes) > 0
        first = wanted.categories[int(wanted.labels[0])]
        opened.tab.locator("#none").click()
        assert opened.saved() == [] and opened.text("summary") == "No objects"
        opened.tab.get_by_label(first.name, exact=True).check()
        rows = opened.saved()
        assert {row["category_id"] for row in rows} == {first.id}
        assert len(rows) == (wanted.ids == first.id).sum() == opened.tab.locator("#found li").count()


def test_the_keyboard_alone_is_enough(browser, sites):
    with Opened(browser, sites("detection")) as opened:
        tab, order = opened.tab, []
        for _ in range(40):
            tab.keyboard.press("Tab")
            name, outline = tab.evaluate(
                """() => {
                  const one = document.activeElement;
                  const seen = one.id === "files" ? document.querySelector("label[for=files]") : one;
                  return [one.id || one.closest("[id]")?.id, getComputedStyle(seen).outlineStyle];
                }"""
            )
            if not name or name in order[:1]:
                break
            order.append(name)
            assert outline != "none", f"no visible focus on {name}"
        seen = list(dict.fromkeys(order))
        assert seen == ["way", "files", "camera", "save", "examples", "slider", "all", "none", "classes"], order
        assert order.count("examples") == 3 and order.count("classes") == tab.locator("#classes input").count()
        tab.locator("#examples button").first.focus()
        tab.keyboard.press("ArrowRight")
        opened.until("document.querySelectorAll('#examples button')[1].getAttribute('aria-current') === 'true'")
        tab.locator("#slider").focus()
        tab.keyboard.press("Home")
        assert opened.text("slider-value") == "0.00"
        opened.until("document.querySelectorAll('#found li').length > 0")
        tab.locator("#none").focus()
        tab.keyboard.press("Enter")
        opened.until("document.getElementById('summary').textContent === 'No objects'")
        tab.locator("#classes input").first.focus()
        tab.keyboard.press("Space")
        assert tab.locator("#classes input").first.is_checked()
        tab.locator("#camera").focus()
        tab.keyboard.press("Enter")
        opened.until("Number(document.getElementById('rate').textContent) > 0")
        tab.keyboard.press("Enter")
        assert tab.locator("#camera").get_attribute("aria-pressed") == "false"
        assert opened.faults == []


def test_every_control_has_a_name(browser, sites):
    with Opened(browser, sites("segmentation")) as opened:
        unnamed = opened.tab.evaluate(
            """() => [...document.querySelectorAll("button, input, select, canvas[role], img, section, aside")]
              .filter((one) => !one.hidden && !one.closest("[hidden]"))
              .filter((one) => !(one.labels?.length || one.getAttribute("aria-label") || one.alt))
              .filter((one) => !(one.textContent.trim() || one.querySelector("img[alt]")))
              .map((one) => one.outerHTML.slice(0, 80))"""
        )
        assert unnamed == []
        assert opened.tab.locator("#canvas").get_attribute("aria-label").startswith("examples/1.jpg: ")


@pytest.mark.parametrize("kind", KINDS)
def test_the_camera_is_drawn_live(browser, sites, kind):
    with Opened(browser, sites(kind)) as opened:
        tab = opened.tab
        tab.locator("#camera").click()
        opened.until("Number(document.getElementById('rate').textContent) > 0")
        size = tab.evaluate("(({ width, height }) => width / height)(document.getElementById('canvas'))")
        assert size == pytest.approx(4 / 3, abs=0.01) or size == pytest.approx(16 / 9, abs=0.01)
        first = tab.evaluate("document.getElementById('canvas').toDataURL()")
        opened.until("(first) => document.getElementById('canvas').toDataURL() !== first", first)
        assert float(opened.text("ms")) > 0 and tab.locator("#canvas").get_attribute("aria-label").startswith(
            "Camera: "
        )
        tab.locator("#camera").click()
        assert opened.text("camera") == "Use the camera" and tab.locator("#rate-box").is_hidden()
        assert opened.faults == []


def test_a_broken_file_is_named_and_the_others_go_on(browser, folders, sites, pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(pictures["detection"][0].read_bytes()[:200])
    (tmp_path / "notes.txt").write_text("no image")
    paths = [tmp_path / "broken.png", pictures["detection"][0], tmp_path / "notes.txt", pictures["detection"][1]]
    with Opened(browser, sites("detection")) as opened:
        opened.drop(paths)
        opened.everything()
        assert {row["file_name"] for row in opened.saved()} == {paths[1].name, paths[3].name}
        assert opened.tab.locator("#notices li").all_inner_texts() == [
            f"{name} cannot be read as an image: give a JPEG, PNG, WebP, BMP, GIF or AVIF file."
            for name in ("broken.png", "notes.txt")
        ]
        assert opened.tab.locator("#results .about").all_inner_texts()[::2] == ["cannot be used"] * 2


def test_pictures_of_every_kind(browser, folders, sites, tmp_path):
    """Grey, palette, CMYK, 16 bits, turned by EXIF, with transparency: read as the package reads them."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    photo = Image.fromarray(noise).resize((80, 60), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.convert("L").save(tmp_path / "grey.png")
    photo.quantize(32).save(tmp_path / "palette.png")
    photo.save(tmp_path / "turned.png", exif=exif)
    photo.save(tmp_path / "turned.jpg", exif=exif, quality=100, subsampling=0)
    photo.convert("RGBA").save(tmp_path / "opaque.png")
    photo.save(tmp_path / "lossless.webp", lossless=True)
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    paths = sorted(tmp_path.iterdir())
    model = seg_det.load(folders("segmentation") / "model.onnx")
    with Opened(browser, sites("segmentation")) as opened:
        opened.drop(paths)
        for path, rows in zip(paths, by_file(opened.saved(), paths), strict=True):
            wanted = model(path).mask
            found = mask_of(rows, model.card, wanted.shape)
            assert (found == wanted).mean() > (0.97 if path.suffix == ".jpg" else 0.999), path.name
        assert opened.text("notices") == ""


def test_hostile_names_are_shown_as_they_are(browser, folders, tmp_path):
    card = seg_det.load(folders("detection") / "model.onnx").card
    names = ["</script><img src=x onerror=document.title=1>", "<b>bold</b>", *(f"class {i}" for i in range(20))]
    categories = tuple(Category(i, names[i % len(names)]) for i in range(len(card.categories)))
    (tmp_path / "ort").symlink_to(folders("detection") / "ort")
    (tmp_path / "model.onnx").symlink_to(folders("detection") / "model.onnx")
    hostile = card.replace(categories=categories, name="<i>x</i>")
    (tmp_path / "index.html").write_text(page(content(hostile, tmp_path / "model.onnx", [], "")))
    with served(tmp_path) as site, Opened(browser, site) as opened:
        assert opened.state == "ready" and opened.tab.title() == "<i>x</i>"
        shown = opened.tab.locator("#classes label > span:nth-of-type(2)").all_inner_texts()
        assert shown == [category.name for category in categories]
        assert opened.tab.locator("#classes img, #classes b, h1 i").count() == 0 and opened.faults == []


def test_what_is_missing_is_said_in_one_sentence(browser, folders, tmp_path):
    with Opened(browser, (folders("detection") / "index.html").as_uri()) as opened:
        assert opened.state == "failed"
        assert "run python -m http.server -d web in the folder above, and open http://localhost:8000" in opened.text(
            "notices"
        )
    card = seg_det.load(folders("detection") / "model.onnx").card
    (tmp_path / "model.onnx").touch()
    (tmp_path / "index.html").write_text(
        page(content(card, tmp_path / "model.onnx", [], "The page cannot run yet: no npm."))
    )
    with served(tmp_path) as site, Opened(browser, site) as opened:
        assert opened.text("notices") == "The page cannot run yet: no npm." and opened.faults == []
        assert opened.tab.locator("#files").is_disabled() and opened.tab.locator("#camera").is_disabled()
    (tmp_path / "index.html").write_text(page(content(card, tmp_path / "model.onnx", [], "")))
    (tmp_path / "model.onnx").unlink()
    with served(tmp_path) as site, Opened(browser, site) as opened:
        assert opened.text("notices") == "model.onnx cannot be loaded (404): copy the whole folder of the export."


@pytest.fixture(scope="module")
def many(browser, tmp_path_factory, tiny_imagefolder):
    """Fifty validation images with exports that were proved on them: the data's folder, and the web folders by kind."""
    folder = tmp_path_factory.mktemp("many")
    shapes = generate_shapes(folder / "shapes", train_images=24, val_images=50)
    found = {}
    for kind in ("detection", "segmentation"):
        found[kind] = export_web(folder, kind, data_keys(kind, shapes, tiny_imagefolder, 50), "verification.images=2")[
            0
        ]
    return shapes, found


def dropped(browser, folder, paths, everything):
    with served(folder) as site, Opened(browser, site) as opened:
        opened.drop(paths)
        if everything:
            opened.everything()
        assert opened.text("results-title") == "50 images" and opened.faults == []
        return opened.saved()


def average_precision(rows, truth):
    """AP of COCO rows by pycocotools; file names, whatever their suffix, say whose they are."""
    ids = {Path(image["file_name"]).stem: image["id"] for image in truth.dataset["images"]}
    detections = [{**row, "image_id": ids[Path(row["file_name"]).stem]} for row in rows]
    evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[0]


def rows_of(model, paths):
    """The same rows from the file itself."""
    return [
        {**row, "file_name": path.name}
        for path, result in zip(paths, model(paths, score_threshold=0), strict=True)
        for row in result.to_coco()
    ]


@pytest.mark.slow
def test_fifty_images_have_the_same_boxes(browser, many, tmp_path):
    """And the same AP, counted against the ten best of the file itself: the small network finds next to no real object."""
    shapes, folders = many
    model = seg_det.load(folders["detection"] / "model.onnx")
    photos = sorted((shapes / "images" / "val").glob("*.jpg"))
    pictures = [tmp_path / f"{path.stem}.png" for path in photos]
    for photo, picture in zip(photos, pictures, strict=True):
        Image.open(photo).save(picture)
    rows = dropped(browser, folders["detection"], pictures, True)
    for found, path in zip(by_file(rows, pictures), pictures, strict=True):
        require_same_boxes(found, model(path, score_threshold=0))
    wanted = rows_of(model, pictures)
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i, "file_name": path.name} for i, path in enumerate(pictures)],
        "categories": [{"id": category.id, "name": category.name} for category in model.card.categories],
        "annotations": [
            {**row, "id": 100 * i + rank + 1, "image_id": i, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
            for i, some in enumerate(by_file(wanted, pictures))
            for rank, row in enumerate(some[:10])
        ],
    }
    truth.createIndex()
    figure = average_precision(wanted, truth)
    assert figure > 0.5 and average_precision(rows, truth) == pytest.approx(figure, abs=1e-3)


@pytest.mark.slow
def test_a_real_detector_keeps_its_ap(browser, real_data, tmp_path):
    """People in fifty of COCO's photos, as the JPEG files that they are, which the browser decodes by itself."""
    coco = real_data / "data" / "coco2017_subset"
    annotations = coco / "annotations" / "instances_val2017.json"
    weights = real_data / "weights" / "ssdlite_mobilenet_v2_person_tf.pth"
    keys = [f"dataset.root={coco}", "classes=[person]", "verification.images=2", "postprocess.score_threshold=0.01"]
    run(tmp_path, "export", f"model={weights}", "target=web", "dataset=coco", *keys)
    (folder,) = tmp_path.glob("runs/export/*/*/web")
    model = seg_det.load(folder / "model.onnx")
    full = COCO(annotations)
    images = full.loadImgs(sorted(full.getImgIds())[:50])
    paths = [coco / "val2017" / image["file_name"] for image in images]
    truth = COCO()
    truth.dataset = {
        "images": images,
        "categories": full.loadCats(1),
        "annotations": full.loadAnns(full.getAnnIds([image["id"] for image in images], catIds=[1])),
    }
    truth.createIndex()
    wanted = average_precision(rows_of(model, paths), truth)
    assert wanted > 0.1
    assert average_precision(dropped(browser, folder, paths, True), truth) == pytest.approx(wanted, abs=1e-3)


def mean_iou(masks, truths, classes):
    counts = np.zeros((classes, classes))
    for mask, truth in zip(masks, truths, strict=True):
        known = truth < classes
        np.add.at(counts, (truth[known].astype(int), mask[known].astype(int)), 1)
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    return (counts.diagonal() / union)[counts.sum(1) > 0].mean()


@pytest.mark.slow
def test_fifty_images_have_the_same_miou(browser, many, tmp_path):
    """Half of them PNG, half JPEG, which a browser decodes with other rounding."""
    shapes, folders = many
    model = seg_det.load(folders["segmentation"] / "model.onnx")
    photos = sorted((shapes / "images" / "val").glob("*.jpg"))
    paths = [tmp_path / f"{path.stem}{('.png', '.jpg')[place % 2]}" for place, path in enumerate(photos)]
    for photo, path in zip(photos, paths, strict=True):
        path.write_bytes(photo.read_bytes()) if path.suffix == ".jpg" else Image.open(photo).save(path)
    truths = [np.asarray(Image.open(shapes / "masks" / "val" / f"{path.stem}.png")) for path in photos]
    rows = by_file(dropped(browser, folders["segmentation"], paths, False), paths)
    found = [mask_of(some, model.card, truth.shape) for some, truth in zip(rows, truths, strict=True)]
    wanted = [model(path).mask for path in paths]
    classes = len(model.card.categories)
    assert mean_iou(found, truths, classes) == pytest.approx(mean_iou(wanted, truths, classes), abs=1e-3)
    assert mean_iou(found, wanted, classes) > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["detection"])  # Chromium's software adapter takes twenty seconds for each
def test_webgpu_finds_the_same(browsers, folders, sites, pictures, kind):
    """On Chromium's own software adapter, the slowest there is; skipped where this build of Chromium has none."""
    model = seg_det.load(folders(kind) / "model.onnx")
    with chromium(browsers, *SOFTWARE_WEBGPU) as browser, Opened(browser, sites(kind)) as opened:
        if opened.tab.evaluate("navigator.gpu?.requestAdapter().then((adapter) => !adapter) ?? true"):
            pytest.skip("this Chromium has no WebGPU adapter")
        assert opened.tab.locator("#way").input_value() == "webgpu", opened.tab.locator("#way").inner_text()
        opened.drop(pictures[kind])
        if kind != "segmentation":
            opened.everything()
        for found, path in zip(by_file(opened.saved(), pictures[kind]), pictures[kind], strict=True):
            require_same(kind, found, model(path, score_threshold=0), model.card)
        opened.tab.locator("#way").select_option("wasm")
        opened.until("!document.getElementById('way').disabled")
        assert opened.tab.locator("#way").input_value() == "wasm" and opened.faults == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_cut_off_at_any_width(browser, sites, pictures, kind, size, scheme):
    settings = {"viewport": size, "color_scheme": scheme, "device_scale_factor": 2}
    with Opened(browser, sites(kind), **settings) as opened:
        opened.drop(pictures[kind])
        width = opened.tab.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"]
        for part in ("#canvas", "#found", "#classes", "#slider", "#camera"):
            box = opened.tab.locator(part).bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= size["width"], part
        opened.shot(f"web_{kind}_{'phone' if size is PHONE else 'desktop'}_{scheme}")


def test_a_server_that_isolates_the_page_gets_several_threads(browser, folders, pictures):
    kind = "segmentation"
    model = seg_det.load(folders(kind) / "model.onnx")
    isolation = {"Cross_Origin_Opener_Policy": "same-origin", "Cross_Origin_Embedder_Policy": "require-corp"}
    with served(folders(kind), **isolation) as site, Opened(browser, site) as opened:
        assert opened.state == "ready" and opened.tab.evaluate("self.crossOriginIsolated")
        opened.drop(pictures[kind][:1])
        require_same(kind, opened.saved(), model(pictures[kind][0]), model.card)
        assert opened.tab.workers and opened.faults == []


def test_the_files_that_the_page_loads_are_those_of_the_export(browser, folders, sites):
    with Opened(browser, sites("detection")) as opened:
        loaded = {urlsplit(address).path.lstrip("/") for address in opened.asked if "/ort/" in address}
        assert loaded and loaded <= {f"ort/{name}" for name in npm.FILES}
        assert re.fullmatch(r"WebGPU|WebAssembly", opened.tab.locator("#way option:checked").inner_text())
        assert read_rgb(folders("detection") / "examples" / "1.jpg").ndim == 3
