"""What cannot be loaded or predicted on gets one true sentence; one bad image of many takes none of the others with it."""

import copy
import io
import json
import pickle
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import seg_det
from seg_det import checkpoint
from seg_det.errors import UserError
from seg_det.export.onnx import OnnxTarget
from seg_det.predict import loading
from seg_det.predict.loading import load
from seg_det.types import Category, ModelCard

EARLIER = Path(__file__).parent.parent / "fixtures" / "earlier"


@pytest.fixture(scope="module")
def model():
    return load(EARLIER / "classification", device="cpu")


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def refuse(sentence, *arguments, **options):
    with pytest.raises(UserError) as caught:
        load(*arguments, **options)
    text = str(caught.value)
    assert re.search(sentence, text) and "\n" not in text, text


def test_nothing_known():
    refuse(r"^nothing is no run folder, no file and no published model .*lists them\)$", "nothing")
    refuse(r"; did you mean torchvision/mobilenet_v2\?$", "torchvision/mobilenetv2")
    refuse("There is no run or checkpoint none.ckpt", "none.ckpt")
    refuse("There is no exported file none.onnx", "none.onnx")


def test_a_data_set_folder(tiny_shapes):
    refuse(r"shapes is a folder without checkpoints/, so no training run: give a run folder", tiny_shapes)


def test_an_image(photo):
    refuse(r"photo\.png is truncated or no PyTorch file", photo)


def test_a_card_without_weights(tmp_path):
    plain = checkpoint.read(EARLIER / "detection" / "checkpoints" / "last.ckpt")["card"]
    torch.save({"card": plain, "state_dict": {}}, tmp_path / "x.ckpt")
    refuse(r"x\.ckpt and its tensors do not belong together: ", tmp_path / "x.ckpt")


def test_a_run_that_ended_early(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    refuse(r"run holds no checkpoints/best\.ckpt or last\.ckpt: it ended before", tmp_path / "run")


def test_a_file_whose_runtime_is_missing(monkeypatch):
    monkeypatch.setattr(OnnxTarget, "packages", ("onnxruntime_of_another_planet",))
    (file,) = (EARLIER / "detection").glob("*.onnx")
    refuse(r"needs onnxruntime_of_another_planet: pip install .*\[onnx\]", file)


def test_a_file_without_its_card(tmp_path):
    (file,) = (EARLIER / "detection").glob("*.onnx")
    shutil.copy(file, tmp_path / "alone.onnx")
    assert load(tmp_path / "alone.onnx").names[0] == load(file).names[0]  # ONNX has a place for it
    shutil.copy(file, tmp_path / "other.onnx")
    (tmp_path / "other.json").write_text(json.dumps({"card": 1}))
    refuse(r"other\.json is no card of an exported model", tmp_path / "other.onnx")


def test_settings_that_a_model_does_not_take():
    (file,) = (EARLIER / "detection").glob("*.onnx")
    refuse("classes and input_size are part of the exported", file, classes=["circle"])
    refuse("are in its card: leave classes out", EARLIER / "detection", classes=["circle"])
    refuse("device must be auto, cpu, cuda or another of torch's, got 'gpu'", EARLIER / "detection", device="gpu")
    for size in (0, float("nan"), "4"):
        refuse(f"batch_size must be a whole number from 1, got {size}", EARLIER / "detection", batch_size=size)
    for names in ([], "cat", [1], 5):
        refuse("classes must be a list of names, got", "torchvision/mobilenet_v2", classes=names)


@pytest.mark.parametrize("size", [0, -5, 10**6, True, "64", 64.5, (64,), (64, 0), (64.5, 64), (1, 2, 3), {64}])
@pytest.mark.parametrize("kind", ["detection", "classification"])
def test_input_sizes_that_cannot_be(kind, size):
    refuse(
        r"^input_size must be a whole number from 1, or \(height, width\), of at most \d+ pixels, got",
        EARLIER / kind,
        input_size=size,
    )


def test_addresses_and_impossible_paths():
    refuse("is an address: of those only published weights are fetched", "https://example.com/model.onnx")
    refuse("is an address", "https://example.com/best.ckpt")
    refuse("there is no file x{100} .File name too long", "x" * 5000)
    refuse("there is no file x{100} .File name too long", "x" * 5000 + ".ckpt")


@pytest.mark.parametrize("size", [64, (32, 96)])
def test_another_input_size(size, photo):
    found = load(EARLIER / "classification", device="cpu", input_size=size)
    assert found.card.input_size == ((size, size) if isinstance(size, int) else size)
    assert found(photo).scores.sum() == pytest.approx(1)


BAD = {
    "float": (
        np.zeros((4, 5, 3)),
        r"must hold bytes, u8 of 0\.\.255 \(multiply by 255 where it is 0\.\.1\), got float64",
    ),
    "int64": (np.zeros((4, 5, 3), int), r"must hold bytes, u8 of 0\.\.255, got int64"),
    "bool": (np.zeros((4, 5, 3), bool), "got bool"),
    "float tensor": (torch.zeros(3, 4, 5), r"u8 of 0\.\.255 \(multiply"),
    "empty": (np.zeros((0, 5, 3), np.uint8), r"with pixels, got \[0, 5, 3\]"),
    "two channels": (np.zeros((4, 5, 2), np.uint8), r"must be \[H, W, 3\], RGB, with pixels, got \[4, 5, 2\]"),
    "a batch": (np.zeros((2, 4, 5, 3), np.uint8), r"got \[2, 4, 5, 3\]"),
    "a number": (7, "an image must be a path, a PIL image, .*, got int"),
    "none": (None, "got NoneType"),
    "fractions": (Image.new("F", (5, 4)), "holds fractions"),
    "bytes": (b"abc", "got bytes"),
    "a dictionary": ({"image": 1}, "got dict"),
    "bfloat16": (torch.zeros(3, 4, 5, dtype=torch.bfloat16), "got torch.bfloat16"),
    "sparse": (torch.zeros(4, 5, 3, dtype=torch.uint8).to_sparse(), "cannot be read as an image"),
    "meta": (torch.zeros(4, 5, 3, dtype=torch.uint8, device="meta"), "cannot be read as an image"),
    "a null byte": ("a\0b.jpg", "there is no image 'a.x00b.jpg' .embedded null byte.; give the path of a file"),
}


@pytest.mark.parametrize("name", BAD)
def test_images_that_cannot_be(model, name):
    given, sentence = BAD[name]
    with pytest.raises(UserError, match=sentence):
        model(given)


def as_mode(mode, size=(60, 40)):
    pixels = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "1", "LA", "YCbCr", "HSV", "I;16"])
def test_images_of_every_mode(model, mode, tmp_path):
    if mode == "I;16":
        given = Image.fromarray(np.random.default_rng(0).integers(0, 2**16, (40, 60), dtype=np.uint16))
    else:
        given = as_mode(mode)
    before = given.tobytes()
    found = model(given)
    assert found.size == (40, 60) and given.tobytes() == before
    if mode not in ("YCbCr", "HSV"):  # which PNG and TIFF do not hold as they are
        suffix = "tif" if mode == "CMYK" else "png"
        given.save(tmp_path / f"x.{suffix}")
        assert np.array_equal(model(tmp_path / f"x.{suffix}").scores, found.scores)


def test_a_turned_image_is_upright(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    as_mode("RGB").save(tmp_path / "turned.png", exif=exif)
    file = model(tmp_path / "turned.png")
    assert file.size == (60, 40)
    assert np.array_equal(model(Image.open(tmp_path / "turned.png")).scores, file.scores)


def test_grey_and_tiny_arrays(model):
    grey = np.full((9, 7), 90, np.uint8)
    assert np.array_equal(model(grey).scores, model(np.dstack([grey] * 3)).scores)
    for kind in ("detection", "segmentation", "classification"):
        one = load(EARLIER / kind, device="cpu")(np.zeros((1, 1, 3), np.uint8), score_threshold=0)
        assert one.size == (1, 1)


@pytest.mark.parametrize("kind", ["detection", "segmentation", "classification"])
def test_a_bad_image_in_the_middle_is_reported_with_its_place(kind, photo, tmp_path, caplog):
    (tmp_path / "empty.jpg").write_bytes(b"")
    model = load(EARLIER / kind, device="cpu", batch_size=2)
    found = model([photo, tmp_path / "none.jpg", np.zeros((3, 3)), photo, tmp_path / "empty.jpg"], score_threshold=0)
    assert [result.ok for result in found] == [True, False, False, True, False]
    assert [result.place for result in found if not result.ok] == [1, 2, 4]
    assert "image 1 is left out: there is no image" in caplog.text and "none.jpg" in caplog.text
    with pytest.raises(UserError, match=r"^there is no boxes: there is no image .*none\.jpg"):
        found[1].boxes  # noqa: B018
    assert "none.jpg" in repr(found[1])
    alone = model(photo, score_threshold=0)
    assert np.array_equal(found[3].draw(), alone.draw())


def test_a_path_alone_that_does_not_exist(model, tmp_path):
    with pytest.raises(UserError, match=r"there is no image .*none\.jpg"):
        model(tmp_path / "none.jpg")


@pytest.mark.parametrize(
    "given",
    [
        1.5,
        -0.1,
        [0.5],
        "high",
        [0.5, 2, 0.1],
        float("nan"),
        True,
        [[0.5] * 3],
        b"abc",
        [None] * 3,
        object(),
        1j,
    ],
)
def test_thresholds_that_cannot_be(given, photo):
    model = seg_det.load(EARLIER / "classification", device="cpu")
    with pytest.raises(UserError, match="score_threshold must be a number from 0 to 1, or 3 of them, got"):
        model(photo, score_threshold=given)


@pytest.mark.parametrize(
    "given",
    [np.float32(0.5), np.array(0.5), torch.tensor(0.5), [0.5] * 3, (np.float32(0.5),) * 3, torch.full((3,), 0.5)],
)
def test_thresholds_of_every_number(given, model):
    assert model.thresholds(given).tolist() == [0.5] * 3


def test_thresholds_by_name(model):
    name = model.names[1]
    usual = model.thresholds().tolist()
    assert model.thresholds({name: 0.75}).tolist() == [usual[0], 0.75, usual[2]]
    for given, sentence in (
        ({name: 2}, f"score_threshold of {name} must be a number from 0 to 1, got 2"),
        ({name: "x"}, f"score_threshold of {name} must be a number from 0 to 1, got x"),
        ({name[:-1]: 0.5}, f"has no class {name[:-1]!r}; did you mean {name}?"),
        ({7: 0.5}, "has no class '7': it has"),
    ):
        with pytest.raises(UserError, match=re.escape(sentence)):
            model.thresholds(given)


def test_loading_and_predicting_leave_the_process_as_it_was(photo, recwarn):
    numbers, limit = torch.get_rng_state(), Image.MAX_IMAGE_PIXELS
    pixels = np.asarray(Image.open(photo))  # read-only
    for kind in ("detection", "segmentation", "classification"):
        load(EARLIER / kind, device="cpu")([photo, pixels])
    assert torch.equal(torch.get_rng_state(), numbers) and limit == Image.MAX_IMAGE_PIXELS
    assert not [warning for warning in recwarn if "writable" in str(warning.message)]


def test_results_can_be_copied_and_sent(photo, tmp_path):
    for kind in ("detection", "segmentation", "classification"):
        sound, failed = load(EARLIER / kind, device="cpu")([photo, tmp_path / "none.jpg"], score_threshold=0)
        for twin in (pickle.loads(pickle.dumps(sound)), copy.deepcopy(sound)):
            assert twin.names == sound.names and np.array_equal(twin.draw(), sound.draw())
        for twin in (pickle.loads(pickle.dumps(failed)), copy.deepcopy(failed)):
            assert not twin.ok and twin.place == 1 and str(twin.error) == str(failed.error)
        with pytest.raises(UserError, match="there is no image"):
            failed.draw()


def test_threads_share_a_model(photo):
    (file,) = (EARLIER / "detection").glob("*.onnx")
    for reference in (EARLIER / "detection", file):
        model = load(reference)
        wanted = model(photo, score_threshold=0)
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(partial(model, score_threshold=0), [photo] * 12):
                assert np.array_equal(found.scores, wanted.scores)


def test_an_empty_list(model):
    assert model([]) == []


def test_weights_that_are_not_finite(photo):
    model = load(EARLIER / "classification", device="cpu")
    next(model.predictor.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(UserError, match=r"for the image 0 is not finite \(NaN or infinity; .*photo\.png\)"):
        model(photo)


def spoiled(kind):
    """A model whose output is NaN for bright images alone."""
    model = load(EARLIER / kind, device="cpu", batch_size=2)
    forward = model.predictor.model.forward

    def broken(images):
        raw = forward(images)
        parts = [raw] if isinstance(raw, torch.Tensor) else [part for part in raw if part is not None]
        for row in (images.mean((1, 2, 3)) > 1).nonzero().flatten().tolist():
            for part in parts:
                part[row] = float("nan")
        return raw

    model.predictor.model.forward = broken
    return model


@pytest.mark.parametrize("kind", ["detection", "segmentation", "classification"])
def test_one_image_without_a_finite_output_takes_no_other_with_it(kind):
    dark, bright = np.zeros((40, 60, 3), np.uint8), np.full((40, 60, 3), 255, np.uint8)
    model = spoiled(kind)
    found = model([dark, bright, dark, dark, bright], score_threshold=0)
    assert [result.ok for result in found] == [True, False, True, True, False]
    assert [result.place for result in found if not result.ok] == [1, 4]
    assert "for the image 4 is not finite" in str(found[4].error)
    assert np.array_equal(found[0].draw(), found[3].draw())


def test_an_exported_file_with_nan_scores_says_so(photo):
    (file,) = (EARLIER / "classification").glob("*.onnx")
    model = load(file)
    session = model.predictor.session
    model.predictor.session = lambda image: {"scores": session(image)["scores"] * np.nan}
    found = model([photo, photo], score_threshold=0)
    assert [result.ok for result in found] == [False, False] and "image 1 is not finite" in str(found[1].error)


def test_a_buffer_that_is_used_again(model):
    buffer, wanted = np.empty((40, 60, 3), np.uint8), []

    def frames():
        for value in (0, 90, 180):
            buffer.fill(value)
            wanted.append(model(buffer.copy()).scores)
            yield buffer

    found = list(model(frames()))
    for result, scores, value in zip(found, wanted, (0, 90, 180), strict=True):
        np.testing.assert_allclose(result.scores, scores, atol=1e-6)
        assert (result.image() == value).all()
    found[0].image()[:] = 7
    assert (found[0].image() == 0).all()


def test_what_an_iterator_gave_before_it_failed_is_not_lost(model, photo):
    def broken():
        yield photo
        yield photo
        raise RuntimeError("the camera is gone")

    results, seen = model(broken()), []
    with pytest.raises(RuntimeError, match="the camera is gone"):
        for result in results:
            seen.append(result.ok)
    assert seen == [True, True]


def test_an_open_file_is_no_list_of_images(model, photo):
    for given in (photo.open("rb"), io.BytesIO(photo.read_bytes()), memoryview(b"abc")):
        with pytest.raises(UserError, match="an image must be a path"):
            model(given)


def test_devices_that_are_not_here():
    (file,) = (EARLIER / "detection").glob("*.onnx")
    refuse("runs on the CPU: leave device out, got cuda", file, device="cuda")
    for device in ("meta", "mps", *(() if torch.cuda.is_available() else ("cuda",))):
        refuse(f"there is no device {device} here: use device=cpu", EARLIER / "detection", device=device)
    refuse("device must be auto, cpu, cuda", EARLIER / "detection", device=None)


def test_a_checkpoint_of_ours_under_another_suffix(tmp_path, photo):
    shutil.copy(EARLIER / "classification" / "checkpoints" / "last.ckpt", tmp_path / "best.pt")
    shutil.copytree(EARLIER / "classification", tmp_path / "run.pt")
    wanted = load(EARLIER / "classification", device="cpu")(photo).scores
    for reference in (tmp_path / "best.pt", tmp_path / "run.pt"):
        assert np.array_equal(load(reference, device="cpu")(photo).scores, wanted)


def test_results_are_short_to_print_and_draw_names_with_line_breaks(photo):
    model = load(EARLIER / "detection", device="cpu")
    found = model(photo, score_threshold=0)
    assert re.fullmatch(r"DetectionResult\((\w+, ){4}\w+ in 60 x 40 pixels\)", repr(found))
    odd = tuple(Category(c.id, f"{c.name}\nor\r so") for c in model.card.categories)
    model.predictor.card = model.card.replace(categories=odd)
    assert model(photo, score_threshold=0).draw().size == (60, 40)


def test_a_loaded_file_can_be_copied(photo):
    (file,) = (EARLIER / "classification").glob("*.onnx")
    predictor = load(file).predictor
    state = predictor.__getstate__()
    twin = object.__new__(type(predictor))
    twin.__setstate__(state)
    assert "_lock" not in state and twin.card == predictor.card


@pytest.mark.parametrize(
    ("values", "sentence"), [([0.5], "holds 1 numbers, and there are 8 classes"), ([5.0] * 8, "not numbers")]
)
def test_thresholds_of_a_card_that_cannot_be(values, sentence):
    plain = checkpoint.read(EARLIER / "detection" / "checkpoints" / "last.ckpt")["card"]
    with pytest.raises(UserError, match=f"card.score_thresholds {sentence}|card.score_thresholds is .*{sentence}"):
        ModelCard.from_dict({**plain, "score_thresholds": values})


def test_supervision_is_named_where_it_is_missing(photo):
    found = load(EARLIER / "detection", device="cpu")(photo)
    with pytest.raises(UserError, match="to_supervision needs the package supervision: pip install supervision"):
        found.to_supervision()


def test_auto_takes_the_gpu_that_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert loading._fastest() == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert loading._fastest() == "cuda"
