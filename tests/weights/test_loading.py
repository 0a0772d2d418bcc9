import hashlib
import re
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from seg_det.commands.weights import main
from seg_det.errors import UserError
from seg_det.models.backbones.mobilenet_v2 import MobileNetV2
from seg_det.models.classifier import Classifier
from seg_det.models.ssdlite import SSDLite
from seg_det.weights import describe, load_backbone, load_model, loading, read_tensors, resolve
from seg_det.weights.catalogue import CATALOGUE, UrlSource
from seg_det.weights.maps import detect

BODY = b"weights" * 100
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SEG_DET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def row(*sources, sha256=SHA256):
    published = CATALOGUE["torchvision/mobilenet_v2"]
    return replace(published, name="lab/net", sources=sources, filename="net.pth", sha256=sha256)


def save(content, path):
    torch.save(content, path)
    return path


def as_torchvision(model):
    """The state dict of our MobileNetV2 under torchvision's names, written down without the table under test."""
    renamed = {}
    for key, tensor in model.state_dict().items():
        parts = key.split(".")
        leaf, norm = parts[-1], parts[-2] == "norm"
        if parts[0] == "stem":
            name = f"features.0.{int(norm)}"
        elif parts[0] == "head":
            name = f"features.18.{int(norm)}"
        else:
            block, layer = int(parts[1]), parts[2]
            position = ["expand", "depthwise", "project"].index(layer) - (block == 0)
            inner = f"{position + norm}" if layer == "project" else f"{position}.{int(norm)}"
            name = f"features.{block + 1}.conv.{inner}"
        renamed[f"{name}.{leaf}"] = tensor
    return {**renamed, "classifier.1.weight": torch.zeros(10, 1280), "classifier.1.bias": torch.zeros(10)}


def backbone(width=0.35, taps=("head",), **settings):
    return MobileNetV2(width=width, taps=taps, **settings)


# References


def test_a_path_is_taken_as_it_is(tmp_path):
    assert resolve(str(save({}, tmp_path / "own.pth"))) == tmp_path / "own.pth"


def test_a_name_goes_through_the_catalogue(monkeypatch, file_server):
    published = row(UrlSource(file_server.put("net.pth", BODY)))
    monkeypatch.setattr(loading, "CATALOGUE", {"lab/net": published})
    assert resolve("lab/net").read_bytes() == BODY


def test_an_address_is_kept_apart_from_others_of_that_name(file_server):
    first = resolve(file_server.put("a/net.pth", b"first"))
    second = resolve(file_server.put("b/net.pth", b"second"))
    assert (first.read_bytes(), second.read_bytes(), first.name) == (b"first", b"second", "net.pth")
    assert resolve(file_server.url("a/net.pth")) == first
    assert len(file_server.requests) == 2


def test_an_unknown_reference_says_where_the_known_ones_are():
    message = r"weights=torchvision/mobilnet_v2 is no published name \(.*--help lists them\), no file and no http\(s\) address; "
    with pytest.raises(UserError, match=message + r"did you mean torchvision/mobilenet_v2\?"):
        resolve("torchvision/mobilnet_v2")


# Files


def test_read_tensors_of_a_state_dict(tmp_path):
    tensors = read_tensors(save({"a.weight": torch.tensor([1.0, 2.0])}, tmp_path / "a.pth"))
    assert list(tensors) == ["a.weight"] and tensors["a.weight"].tolist() == [1.0, 2.0]


def test_read_tensors_of_a_training_checkpoint(tmp_path):
    checkpoint = {"state_dict": {"predictor.model.backbone.x": torch.ones(1), "step": torch.ones(1)}, "epoch": 3}
    assert sorted(read_tensors(save(checkpoint, tmp_path / "a.ckpt"))) == ["backbone.x", "step"]


class Evil:
    def __reduce__(self):
        return (print, ("run",))


BAD_FILES = (
    ("page.pth", b"\n<!DOCTYPE html><html>404</html>", "page.pth is a web page, not weights: delete it"),
    ("lfs.pth", b"version https://git-lfs.github.com/spec/v1\noid", "lfs.pth is a Git LFS pointer"),
    ("text.pth", b"hello", "text.pth is truncated or no PyTorch file"),
    ("empty.pth", b"", "empty.pth is truncated or no PyTorch file"),
    ("evil.pth", {"a": Evil()}, r"evil.pth holds a Python object \(.*print\) besides tensors.*was refused"),
    ("module.pth", nn.Linear(1, 1), r"module.pth holds a Python object \(torch.nn.modules.linear.Linear\)"),
    ("list.pth", [torch.ones(1)], "list.pth holds a list, not named tensors"),
    ("none.pth", {}, "none.pth holds a dict, not named tensors"),
    ("deep.pth", {"net": {"a": torch.ones(1)}, "lr": 0.1}, "deep.pth holds values that are no tensors: net, lr; save"),
)


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES, ids=[name for name, *_ in BAD_FILES])
def test_what_is_no_weights_file_is_named(tmp_path, capsys, name, content, message):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        save(content, path)
    with pytest.raises(UserError, match=message):
        read_tensors(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("kept", [1, 30, 200, 1500, -10])
def test_a_truncated_file_is_named(tmp_path, new_format, kept):
    path = tmp_path / "cut.pth"
    torch.save({"a": torch.randn(500)}, path, _use_new_zipfile_serialization=new_format)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"cut\.pth is truncated or no PyTorch file"):
        read_tensors(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"There is no file .*gone\.pth"):
        read_tensors(tmp_path / "gone.pth")


# Fitting


def test_torchvision_names_fill_every_tensor(tmp_path):
    torch.manual_seed(0)
    source, target = backbone(), backbone()
    report = load_backbone(target, str(save(as_torchvision(source), tmp_path / "tv.pth")))
    ours = source.state_dict()
    assert all(torch.equal(tensor, ours[key]) for key, tensor in target.state_dict().items())
    assert (report.naming, report.loaded) == ("torchvision MobileNetV2", 312)
    assert report.unused == ("classifier.1.weight", "classifier.1.bias")
    assert str(report) == (
        f"312 tensors from {tmp_path / 'tv.pth'} (torchvision MobileNetV2 names); "
        f"not needed: classifier.1.weight, classifier.1.bias"
    )


def test_a_backbone_that_stops_earlier_names_what_it_leaves(tmp_path):
    path = save(as_torchvision(backbone()), tmp_path / "tv.pth")
    report = load_backbone(backbone(taps=("c5",)), str(path))
    assert report.loaded == 312 - 6
    assert [key for key in report.unused if not key.startswith("classifier")] == [
        "features.18.0.weight",
        *(f"features.18.1.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
    ]


def test_our_own_backbone_alone_and_inside_a_checkpoint(tmp_path):
    source = backbone()
    bare = load_backbone(backbone(), str(save(source.state_dict(), tmp_path / "bare.pth")))
    assert (bare.naming, bare.loaded, bare.unused) == ("seg_det", 312, ())
    whole = {f"predictor.model.backbone.{key}": tensor for key, tensor in source.state_dict().items()}
    checkpoint = {"state_dict": {**whole, "predictor.model.heads.0.bias": torch.ones(3)}}
    target = backbone()
    report = load_backbone(target, str(save(checkpoint, tmp_path / "run.ckpt")))
    assert (report.naming, report.loaded, report.unused) == ("seg_det model", 312, ("heads.0.bias",))
    assert torch.equal(target.blocks[16].project.conv.weight, source.blocks[16].project.conv.weight)


def test_batch_counts_may_be_missing(tmp_path):
    state = {k: v for k, v in as_torchvision(backbone()).items() if not k.endswith("num_batches_tracked")}
    assert load_backbone(backbone(), str(save(state, tmp_path / "old.pth"))).loaded == 312 - 52


def test_missing_and_differing_tensors_are_named_and_nothing_changes(tmp_path):
    state = as_torchvision(backbone())
    del state["features.3.conv.2.weight"], state["features.5.conv.0.1.bias"]
    state["features.0.0.weight"] = torch.zeros(16, 1, 3, 3)
    target = backbone()
    before = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    message = re.escape(
        "tv.pth (torchvision MobileNetV2 names) does not fit the model: "
        "it lacks backbone.blocks.2.project.conv.weight, backbone.blocks.4.expand.norm.bias; "
        "its shapes differ: features.0.0.weight [16, 1, 3, 3] for backbone.stem.conv.weight [16, 3, 3, 3]."
    )
    with pytest.raises(UserError, match=message):
        load_backbone(target, str(save(state, tmp_path / "tv.pth")))
    assert all(torch.equal(tensor, before[key]) for key, tensor in target.state_dict().items())


@pytest.mark.parametrize(("file", "model", "override"), [(1.0, 0.5, ""), (0.35, 1.0, " backbone.width=0.35")])
def test_another_width_is_recognised(tmp_path, file, model, override):
    path = save(as_torchvision(backbone(file)), tmp_path / "tv.pth")
    message = rf"and \d+ more; it holds MobileNetV2, width {file}, 10 classes \(backbone=v2{override}\)\.$"
    with pytest.raises(UserError, match=message):
        load_backbone(backbone(model, scale_head=False), str(path))


def test_unknown_names_are_listed(tmp_path):
    path = save({f"MobilenetV2/Conv_{i}/weights": torch.ones(1) for i in range(5)}, tmp_path / "tf.pth")
    message = r"tf\.pth names its tensors in no known way: it has MobilenetV2/Conv_0/weights, .* and 2 more; known are "
    with pytest.raises(UserError, match=message + r"torchvision MobileNetV2, .*, seg_det model, seg_det\."):
        load_backbone(backbone(), str(path))


def test_a_catalogue_name_uses_the_mapping_of_its_row(monkeypatch, file_server, tmp_path):
    body = save(as_torchvision(backbone()), tmp_path / "tv.pth").read_bytes()
    url = file_server.put("net.pth", body)
    published = row(UrlSource(url), sha256=hashlib.sha256(body).hexdigest())
    monkeypatch.setattr(loading, "CATALOGUE", {"lab/net": published})
    assert load_backbone(backbone(), "lab/net").loaded == 312


def classifier(classes=10, **settings):
    return Classifier(partial(MobileNetV2, width=0.35, **settings), num_classes=classes)


def test_load_model_fills_a_model_from_a_checkpoint(tmp_path):
    source, target = classifier(), classifier()
    state = {f"predictor.model.{key}": tensor for key, tensor in source.state_dict().items()}
    report = load_model(target, save({"state_dict": state}, tmp_path / "run.ckpt"))
    assert (report.naming, report.loaded, report.unused) == ("seg_det model", 314, ())
    ours = source.state_dict()
    assert all(torch.equal(tensor, ours[key]) for key, tensor in target.state_dict().items())


def test_load_model_refuses_what_is_of_another_model(tmp_path):
    state = classifier().state_dict()
    several = {**state, "auxiliary.weight": torch.ones(1)}
    with pytest.raises(UserError, match=r"a\.pth .*does not fit the model, which has no auxiliary\.weight\."):
        load_model(classifier(), save(several, tmp_path / "a.pth"))
    message = r"b\.pth .*its shapes differ: classifier\.weight \[10, 448\] for classifier\.weight \[9, 448\], classifier\.bias"
    with pytest.raises(UserError, match=message):
        load_model(classifier(9), save(state, tmp_path / "b.pth"))
    del state["classifier.bias"]
    with pytest.raises(
        UserError, match=r"c\.pth .*does not fit the model: it lacks classifier\.bias; it holds MobileNetV2"
    ):
        load_model(classifier(), save(state, tmp_path / "c.pth"))


@pytest.mark.parametrize(("prefix", "what"), [("", "a classifier"), ("backbone.", "a backbone")])
def test_a_file_without_the_models_head_is_for_the_backbone(tmp_path, prefix, what):
    state = classifier().state_dict()
    path = save({key: t for key, t in state.items() if key.startswith(prefix)}, tmp_path / "net.pth")
    detector = SSDLite(partial(MobileNetV2, width=0.35), num_classes=2)
    message = (
        rf"holds {what} and nothing of the head of this SSDLite: weights= takes .*; backbone\.weights={path} takes its"
    )
    with pytest.raises(UserError, match=message):
        load_model(detector, path)
    assert load_backbone(detector.backbone, str(path)).loaded == 312


# The description


def test_describe(tmp_path):
    path = save(as_torchvision(backbone(0.5)), tmp_path / "tv.pth")
    elements = sum(tensor.numel() for tensor in read_tensors(path).values())
    assert describe(path).splitlines() == [
        f"{path}: 314 tensors, {elements:,} elements",
        "names: torchvision MobileNetV2",
        "holds: MobileNetV2, width 0.5, 10 classes",
        "fits: backbone=v2 backbone.width=0.5",
    ]


def test_the_command_line(tmp_path, capsys):
    path = save({"net.weight": torch.ones(2, 3)}, tmp_path / "net.pth")
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: 1 tensors, 6 elements\nnames: unknown, such as net.weight\n"
    assert main(["nothing"]) == 1
    assert capsys.readouterr().err.startswith("error: weights=nothing is no published name")


def test_the_real_file_of_torchvision(real_data):
    path = real_data / "weights" / "mobilenet_v2_torchvision.pth"
    tensors = read_tensors(path)
    assert detect(tensors).name == "torchvision MobileNetV2"
    target = backbone(1.0)
    report = load_backbone(target, str(path))
    assert (report.loaded, report.unused) == (312, ("classifier.1.weight", "classifier.1.bias"))
    assert "314 tensors, 3,539,036 elements" in describe(path)
