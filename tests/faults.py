"""Does the test suite notice a broken product? ``python -m tests.faults`` applies each fault alone and runs the tests.

Each fault is one wrong line of the product, of the kind that people make: a sign, an off-by-one, a swapped class index, a
dropped ``eval()``, a wrong default, a lost file; at least one in every package. The faults were chosen before the suite was
made shorter. The script works on a copy of the tracked files and leaves the checkout as it is.

    python -m tests.faults                 # each against `pytest`, and where that passes against `pytest -m slow`
    python -m tests.faults decode_sign     # some of them, by name
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Fault(NamedTuple):
    """One line of ``file`` (below the root of the project) and what stands there instead."""

    name: str
    file: str
    right: str
    wrong: str


FAULTS = (
    Fault(
        "decode_sign",
        "seg_det/ops/boxes.py",
        "centre = deltas[..., :2] * anchor[..., 2:] + anchor[..., :2]",
        "centre = anchor[..., :2] - deltas[..., :2] * anchor[..., 2:]",
    ),
    Fault(
        "same_padding_before",
        "seg_det/nn/convolutions.py",
        "return total // 2, total - total // 2",
        "return total - total // 2, total // 2",
    ),
    Fault(
        "one_negative_more",
        "seg_det/losses/detection.py",
        "return (rank < wanted) & ~positive & ~ignored",
        "return (rank <= wanted) & ~positive & ~ignored",
    ),
    Fault(
        "ignored_pixels_count",
        "seg_det/losses/segmentation.py",
        "probabilities = logits.softmax(1) * (target != IGNORE)[:, None]",
        "probabilities = logits.softmax(1)",
    ),
    Fault(
        "accuracy_of_predicted",
        "seg_det/metrics/segmentation.py",
        "        labelled = self.confusion.sum(1)\n        present",
        "        labelled = self.confusion.sum(0)\n        present",
    ),
    Fault(
        "crowd_counts",
        "seg_det/metrics/coco.py",
        '"iscrowd": int(crowd),',
        '"iscrowd": 0,',
    ),
    Fault(
        "one_extra_map_less",
        "seg_det/models/ssd.py",
        "sizes.append((-(-rows // 2), -(-columns // 2)))",
        "sizes.append((rows // 2, columns // 2))",
    ),
    Fault(
        "kernel_of_table_1",
        "seg_det/models/backbones/mobilenet_v3.py",
        'Row(5, 672, 160, True, "HS", 2),',
        'Row(3, 672, 160, True, "HS", 2),',
    ),
    Fault(
        "background_last",
        "seg_det/postprocess.py",
        "return scores[..., 1:]",
        "return scores[..., :-1]",
    ),
    Fault(
        "voc_from_zero",
        "seg_det/data/voc.py",
        "boxes = corners - (1, 1, 0, 0)",
        "boxes = corners - (0, 0, 0, 0)",
    ),
    Fault(
        "norms_in_training",
        "seg_det/training/learner.py",
        "            norm.eval()",
        "            norm.train()",
    ),
    Fault(
        "predictions_lost",
        "seg_det/evaluation/run.py",
        '    write_rows(destination.run / "predictions.json", evaluation.metric.results())\n',
        "",
    ),
    Fault(
        "half_the_rate",
        "conf/recipe/finetune.yaml",
        "lr: 0.002 #",
        "lr: 0.001 #",
    ),
    Fault(
        "variance_for_deviation",
        "seg_det/weights/unfold.py",
        "norm.weight.copy_((variance + norm.eps).sqrt())",
        "norm.weight.copy_(variance + norm.eps)",
    ),
    Fault(
        "width_for_height",
        "seg_det/predict/graphs.py",
        "torch.tensor([self.size[1], self.size[0]] * 2",
        "torch.tensor([self.size[0], self.size[1]] * 2",
    ),
    Fault(
        "colours_of_others",
        "seg_det/report/drawings.py",
        "_captions([names[label] for label in labels]",
        "_captions([names[label - 1] for label in labels]",
    ),
    Fault(
        "resumes_the_best",
        "seg_det/commands/train.py",
        'resume = checkpoint.find(named, prefer="last")',
        'resume = checkpoint.find(named, prefer="best")',
    ),
    Fault(
        "smallest_map_first",
        "seg_det/anchors/fit.py",
        "return list(shapes[shapes[:, 0].argsort()].split(counts))",
        "return list(shapes[shapes[:, 0].argsort(descending=True)].split(counts))",
    ),
    Fault(
        "no_eval",
        "seg_det/checkpoint.py",
        "return model.eval(), card",
        "return model, card",
    ),
    Fault(
        "norms_decay",
        "seg_det/training/optimisation.py",
        "decays = parameter.ndim > 1 and (decay_depthwise or not depthwise)",
        "decays = decay_depthwise or not depthwise",
    ),
)


def main(names: list[str]) -> int:
    """Apply the named faults (all, if none is named) one after the other; returns how many no test noticed."""
    chosen = [fault for fault in FAULTS if not names or fault.name in names]
    missed = 0
    for fault in chosen:
        start = time.perf_counter()
        found = _noticed(fault)
        missed += found is None
        print(f"{fault.name:24} {found or 'NOT NOTICED':60} {time.perf_counter() - start:5.0f} s", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} faults noticed")
    return missed


def _noticed(fault: Fault) -> str | None:
    """The first test that fails with ``fault``; None if all pass."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "seg_det"
        _copy(copy)
        file = copy / fault.file
        text = file.read_text()
        if text.count(fault.right) != 1:
            raise SystemExit(
                f"{fault.name}: expected its line once in {fault.file}, got {text.count(fault.right)} times"
            )
        file.write_text(text.replace(fault.right, fault.wrong))
        # Most faults fall to the tests of their own package: first, to save time.
        package = fault.file.removeprefix("seg_det/").split("/")[0].removesuffix(".py")
        rounds = [[near] for near in (f"tests/{package}", f"tests/test_{package}.py") if (copy / near).exists()]
        for arguments in [*rounds, [], ["-m", "slow"]]:
            if failed := _first_failure(copy, arguments):
                return failed + (" (slow)" if "slow" in arguments else "")
    return None


def _copy(target: Path) -> None:
    """The tracked files of the checkout."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())


def _first_failure(folder: Path, arguments: list[str]) -> str | None:
    # test_faults.py asks whether the right line is there, which of all tests says nothing about the others.
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--ignore=tests/test_faults.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(folder), "SEG_DET_TEST_BUDGET": "inf"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    failures = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return (failures or [f"pytest ended with {done.returncode}"])[0] if done.returncode else None


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
