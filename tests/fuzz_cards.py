"""Altered cards, sidecars and configurations: ``python -m tests.fuzz_cards 10000`` makes so many and uses each.

A quarter each are cards of checkpoints, sidecars (with the checksum that belongs to them), cards inside ONNX files and
configurations of run folders. One to four values of a sound one are replaced, moved, wrapped, renamed, added or taken away. Each
file is loaded as the commands load it and, where that is possible, used for one image. Whatever happens must be a success or one
sentence of one line: no other exception, no process, no import that a file asks for, no file outside the working folder.
The same seed gives the same files.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import torch
import yaml

sys.path.insert(0, str(Path(__file__).parent))  # hostile.py, as the tests import it

from hostile import MODELS, card, composed, sealed, state, training_config

from seg_det import checkpoint, sidecar
from seg_det.checksums import sha256_of
from seg_det.commands.error_sentences import running_sentence
from seg_det.commands.labelled_data import read_source, read_training
from seg_det.commands.models import dataset_for
from seg_det.commands.saved_config import config_of, dataset_of, resumable
from seg_det.commands.train import _training
from seg_det.data.classes import with_categories
from seg_det.data.imagefolder import read_imagefolder
from seg_det.data.shapes import generate_shapes, read_shapes
from seg_det.evaluation.measure import evaluate
from seg_det.kinds.lookup import kind_of
from seg_det.predict.exported import FilePredictor, open_file
from seg_det.predict.loading import network_predictor
from seg_det.training.run import _check, _suits

KINDS = ("checkpoint", "sidecar", "onnx", "config")
TASKS = tuple(MODELS)
LONGEST = 60  # seconds of one file
PIXELS = 2**17  # of the largest input that is predicted on
SPAWNS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile")
MODULE = "seg_det_hostile_module"  # whose import leaves the marker
NUMBERS = (
    -1, 0, 1, 2, 3, 8, 64, 1000, 10**6, 10**9, 10**12, 2**63, -(2**63), 10**400, 0.5, 1.0, -0.5, 1e-300, 1e9, 1e308,
    math.nan, math.inf, -math.inf,
)  # fmt: skip
NAMES = (
    "os.system", "distutils.spawn.spawn", "pip._internal.cli.main.main", "seg_det.report.tables.write_whole",
    "seg_det.data.shapes.generate_shapes", f"{MODULE}.run", "builtins.eval", "SSDLite", "LRASPP", "RASPP", "Classifier",
    "DeepLabv3", "seg_det.models.old.SSDLite", "MobileNetV1", "MobileNetV3", "MixNet", "InceptionV1", "TimmFeatures",
    "read_coco", "read_voc", "read_shapes", "read_imagefolder", "multibox_loss", "flip_only", "ssd_augmentation",
)  # fmt: skip
WORDS = (
    "", "x", "\0", "a\nb", "\ud800", "x" * 5000, "..", "../../x", "/", "/dev/null", "/proc/self/environ", "~", "???", "detection",
    "segmentation", "classification", "stretch", "letterbox", "whole", "full", "normalised", "raw", "train", "val", "softmax",
    "same", "tensorflow", "c4_expand", "head", "auto", "cuda", "null", "1e9", "${oc.env:HOME}", "${dataset}", "${nowhere}",
    "${oc.env:SEG_DET_FUZZ_TARGET}", "${", "{x}", "%s", "__import__('os')",
)  # fmt: skip


class Mutator:
    """Alters copies of plain values, by its own random stream."""

    def __init__(self, seed: tuple[int, ...], marker: Path):
        self.random = random.Random(str(seed))
        self.marker = str(marker)

    def altered(self, content):
        """A copy of ``content`` with one to four alterations."""
        content = copy.deepcopy(content)
        for _ in range(self.random.choice((1, 1, 1, 2, 2, 3, 4))):
            if places := list(self._places(content, ())):
                self._alter(content, self.random.choice(places))
        return content

    def _places(self, value, path):
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            yield (*path, key)
            yield from self._places(value[key], (*path, key))

    def _alter(self, content, path):
        *parents, key = path
        owner = content
        for part in parents:
            owner = owner[part]
        self.random.choice(
            (self._replace, self._replace, self._replace, self._near, self._take, self._wrap, self._add)
        )(owner, key)

    def _replace(self, owner, key):
        owner[key] = self._value(2)

    def _near(self, owner, key):
        """Something that is nearly right: another number, a slightly longer list, another type of the same value."""
        value, choose = owner[key], self.random.choice
        if isinstance(value, bool) or value is None:
            owner[key] = choose((not value, 0, 1, "true", None))
        elif isinstance(value, int | float):
            owner[key] = choose(
                (value + 1, value - 1, -value, value * 2, value // 2, float(min(value, 1e9)), str(value), [value])
            )
        elif isinstance(value, str):
            owner[key] = choose(
                (value + "x", value[:-1], value.upper(), [value], f"seg_det.models.{value}", f"os.{value}")
            )
        elif isinstance(value, list):
            owner[key] = choose(
                (value[:-1], value + value, value[::-1], {str(i): part for i, part in enumerate(value)})
            )
        else:
            owner[key] = choose(
                ([list(item) for item in value.items()], list(value.values()), {**value, **value}, json.dumps(value))
            )

    def _take(self, owner, key):
        del owner[key]

    def _wrap(self, owner, key):
        depth = self.random.choice((1, 1, 2, 40))
        for _ in range(depth):
            owner[key] = [owner[key]] if self.random.random() < 0.5 else {self._key(): owner[key]}

    def _add(self, owner, key):
        if isinstance(owner, dict):
            owner[self._key()] = self._value(2)
        else:
            owner.insert(key, self._value(2))

    def _key(self):
        special = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_", "_mode_")
        return self.random.choice((*special, "x", "", "name", "within", "hook", "root"))

    def _value(self, depth):
        choose = self.random.choice
        kind = self.random.random()
        if kind < 0.25:
            return choose(NUMBERS)
        if kind < 0.45:
            return choose(WORDS)
        if kind < 0.6:
            return choose(NAMES)
        if kind < 0.65:
            return choose((None, True, False))
        if kind < 0.75:
            return self.marker
        if depth == 0 or kind < 0.9:
            return self._call()
        parts = [self._value(depth - 1) for _ in range(choose((0, 1, 2, 3, 5)))]
        return parts if self.random.random() < 0.5 else {self._key(): part for part in parts}

    def _call(self):
        touch = ["touch", self.marker]
        return self.random.choice(
            (
                {"_target_": "distutils.spawn.spawn", "cmd": touch},
                {"_target_": "os.system", "_partial_": True, "command": f"touch {self.marker}"},
                {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": [self.marker]}]},
                {"_target_": "seg_det.report.tables.write_whole", "path": self.marker, "text": "x"},
                {"_target_": f"{MODULE}.run"},
                {"_target_": "${oc.env:SEG_DET_FUZZ_TARGET}", "cmd": touch},
                {"_target_": self.random.choice(NAMES)},
            )
        )


class Bench:
    """A working folder with sound files to alter, and what uses an altered one."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.marker = folder.parent / "away" / "CODE_RAN"
        self.marker.parent.mkdir()
        generate_shapes(folder / "shapes", train_images=2, val_images=1)
        (folder / "modules").mkdir()
        (folder / "modules" / f"{MODULE}.py").write_text(f"open({str(self.marker)!r}, 'w')\ndef run(*a, **k): pass\n")
        self.states = {task: state(task) for task in TASKS}
        self.config = training_config("shapes")
        self.config["dataset"] |= {"train_images": 2, "val_images": 1}
        checkpoints = folder / "run" / "checkpoints"
        checkpoints.mkdir(parents=True)
        torch.save({"state_dict": self.states["detection"], "card": card(), "epoch": 0}, checkpoints / "best.ckpt")
        self.checkpoint = checkpoints / "best.ckpt"
        self.trained = checkpoint.load(self.checkpoint)
        self._images(folder / "colours")
        self.sources = {task: self._source(task) for task in TASKS}
        self.graphs = {task: folder / f"{task}.onnx" for task in TASKS}
        for task, path in self.graphs.items():
            path.write_bytes(graph(task))

    def _images(self, root):
        import numpy as np
        from PIL import Image

        for name in ("a", "b", "c"):
            (root / "val" / name).mkdir(parents=True)
            (root / "train" / name).mkdir(parents=True)
            for split in ("train", "val"):
                pixels = np.random.default_rng(0).integers(0, 255, (70, 80, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / "1.png")

    def _source(self, task):
        if task == "classification":
            return read_imagefolder(root=self.folder / "colours", split="val")
        return read_shapes(self.folder / "shapes", "val", kind=task, train_images=2, val_images=1)

    def of_checkpoint(self, mutator, task):
        path = self.folder / "altered.ckpt"
        torch.save({"state_dict": self.states[task], "card": mutator.altered(card(task))}, path)
        yield
        model, found = checkpoint.load(path)
        kind = kind_of(found, f"The card of {path}", model)
        yield from self._evaluated(kind, found, task, lambda source: evaluate(
            kind, network_predictor(model, found), source, batch_size=1, num_workers=0
        ))  # fmt: skip

    def of_sidecar(self, mutator, task):
        path = self.graphs[task]
        export = {**ABOUT[task], "files": {path.name: sha256_of(path)}}
        content = mutator.altered({"card": card(task), "export": export})
        sidecar.beside(path).write_text(sealed(content))
        yield
        yield from self._opened(path, task)

    def of_onnx(self, mutator, task):
        path = self.folder / "embedded.onnx"
        content = mutator.altered({"card": card(task), "export": ABOUT[task]})
        path.write_bytes(self.graphs[task].read_bytes() + _metadata(sealed(content)))
        yield
        yield from self._opened(path, task)

    def of_config(self, mutator, task):
        text = yaml.safe_dump(json.loads(json.dumps(mutator.altered(self.config))))
        (self.folder / "run" / "config.yaml").write_text(text)
        yield
        model, found = self.trained
        if mutator.random.random() < 0.5:
            source = read_source(dataset_for(dataset_of(self.checkpoint), found), "val", within=[Path.cwd()])
            evaluate(
                kind_of(found),
                network_predictor(model, found),
                with_categories(source, found.categories, "x"),
                batch_size=1,
                num_workers=0,
            )
        else:
            config = resumable(config_of(self.checkpoint), self.checkpoint)
            within = [Path.cwd()]
            parts = read_training(config.dataset, within=within)
            setup = _training(config, self.folder / "runs", self.checkpoint, parts, within)
            kind = kind_of(found)
            _suits(kind, setup)
            _check(kind, setup, with_categories(setup.val, setup.train.categories, "x"))
        yield

    def _opened(self, path, task):
        opened = open_file(path)
        what = f"The card of {path}"
        predictor = FilePredictor(opened)
        kind = kind_of(opened.card, what)
        yield from self._evaluated(
            kind, opened.card, task, lambda source: evaluate(kind, predictor, source, batch_size=1, num_workers=0)
        )

    def _evaluated(self, kind, found, task, measure):
        if math.prod(found.input_size) > PIXELS:
            return
        source = with_categories(self.sources[task], found.categories, "the card")
        measure(source)
        yield


ABOUT = {
    task: {
        "target": "onnx", "precision": "fp32", "pipeline": "normalised" if task == "classification" else "raw",
        "keep_float": [], "input": "images", "outputs": outputs, "checkpoint": {"path": "run/checkpoints/best.ckpt"},
        "versions": {"seg_det": "0.1.0"},
    }
    for task, outputs in (
        ("detection", ["logits", "deltas"]), ("segmentation", ["logits"]), ("classification", ["scores"])
    )
}  # fmt: skip


def graph(task):
    """A graph with the outputs of the small model of ``task``, whatever its input: what a file of somebody else may be."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    plain = checkpoint.ModelCard.from_dict(card(task))
    with torch.no_grad():
        raw = checkpoint.build_model(plain.model).eval()(torch.rand(1, 3, *plain.input_size))
    arrays = {
        "detection": lambda: {"logits": raw.logits, "deltas": raw.deltas},
        "segmentation": lambda: {"logits": raw.logits},
        "classification": lambda: {"scores": raw.softmax(-1)},
    }[task]()
    values = {name: np.ascontiguousarray(value.numpy()) for name, value in arrays.items()}
    nodes = [helper.make_node("Identity", [f"{name}_value"], [name]) for name in values]
    size = ["batch", 3, *plain.input_size]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, size)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in values.items()],
            [numpy_helper.from_array(value, f"{name}_value") for name, value in values.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    return model.SerializeToString()


def _metadata(text):
    """The bytes that add ``text`` to an ONNX model as its card: a message's repeated fields may follow one another."""
    import onnx

    model = onnx.ModelProto()
    onnx.helper.set_model_props(model, {"seg_det": text})
    return model.SerializeToString()


class Watch:
    """Notes processes that are started and files that are written outside of the working folder, while ``active``."""

    def __init__(self, folder: Path):
        self.folder, self.active, self.found = str(folder), False, []
        sys.addaudithook(self._note)

    def _note(self, event, arguments):
        if not self.active:
            return
        if event in SPAWNS:
            self.found.append(f"{event} {arguments[:2]}")
        elif (
            event == "open" and isinstance(arguments[0], str) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            path = os.path.abspath(arguments[0])  # noqa: PTH100
            if os.path.isdir(path):  # noqa: PTH112 - a temporary file without a name, which is gone with its handle
                return
            if not path.startswith((self.folder, "/dev/")) and "__pycache__" not in path:
                self.found.append(f"{event} {path}")


def run_one(bench, watch, kind, seed, number):
    """What became of one altered file: refused, loaded or used. Raises AssertionError with the trace for anything else."""
    mutator = Mutator((seed, KINDS.index(kind), number), bench.marker)
    steps = getattr(bench, f"of_{kind}")(mutator, TASKS[number % len(TASKS)])
    next(steps)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    watch.active, outcome, sentence = True, "loaded", None
    try:
        for _ in steps:
            outcome = "used"
    except BaseException as error:
        outcome, sentence = "refused", running_sentence(error)
        if sentence is None or "\n" in sentence or not isinstance(error, Exception):
            raise AssertionError(f"{kind} {number} of seed {seed}: {traceback.format_exc()[-3000:]}") from error
    finally:
        watch.active = False
        signal.setitimer(signal.ITIMER_REAL, 0)
    strange = [
        *watch.found,
        *(["the marker"] if bench.marker.exists() else []),
        *([MODULE] if MODULE in sys.modules else []),
    ]
    if strange:
        raise AssertionError(f"{kind} {number} of seed {seed} did {strange[:5]}")
    return outcome, sentence


@contextmanager
def workplace():
    """A bench in a folder of its own, which is the working folder meanwhile."""
    from hydra.core.hydra_config import HydraConfig

    before, path = Path.cwd(), list(sys.path)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work = Path(folder).resolve() / "work"
        work.mkdir()
        os.chdir(work)
        os.environ["SEG_DET_FUZZ_TARGET"] = "distutils.spawn.spawn"
        sys.path.insert(0, str(work / "modules"))
        HydraConfig.instance().set_config(composed("train", ()).copy())
        alarm = signal.signal(signal.SIGALRM, _too_long)
        try:
            with redirect_stderr(io.StringIO()):  # progress bars
                yield Bench(work)
        finally:
            signal.signal(signal.SIGALRM, alarm)
            os.chdir(before)
            sys.path[:] = path


def _too_long(*_):
    raise TimeoutError(f"more than {LONGEST} s")


def fuzz(kinds, count, seed=0, first=0, keep_going=False):
    """Use ``count`` altered files of each of ``kinds``; returns the outcomes by kind, the faults and the slowest."""
    outcomes, faults, slowest = {kind: Counter() for kind in kinds}, [], (0.0, "")
    with workplace() as bench:
        watch = Watch(bench.folder)
        for kind in kinds:
            for number in range(first, first + count):
                began = time.perf_counter()
                try:
                    outcome, _ = run_one(bench, watch, kind, seed, number)
                    outcomes[kind][outcome] += 1
                except AssertionError as error:
                    if not keep_going:
                        raise
                    faults.append(str(error))
                    watch.found.clear()
                slowest = max(slowest, (time.perf_counter() - began, f"{kind} {number}"))
    return outcomes, faults, slowest


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, help="files in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    began = time.perf_counter()
    each = math.ceil(options.count / len(options.kinds))
    outcomes, faults, slowest = fuzz(options.kinds, each, options.seed, options.first, keep_going=True)
    for kind, found in outcomes.items():
        print(f"{kind}: {sum(found.values())} files, {dict(found)}")
    print(f"{time.perf_counter() - began:.0f} s; slowest {slowest[1]}: {slowest[0]:.2f} s")
    for fault in faults:
        print(fault)
    sys.exit(f"{len(faults)} faults" if faults else 0)


if __name__ == "__main__":
    main()
