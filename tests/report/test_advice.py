"""What would help a trained model most, from the curves and errors of its run."""

from pathlib import Path

import pytest
from records import TRAINING, run_record

from seg_det.report.advice import Advice, Seen, advice, overfitted, still_rising
from seg_det.report.terminal import summary

RUN = Path("runs/train/a")
LONG = {**TRAINING, "epochs": 20, "minutes": 8.0}


def seen(history=None, **parts):
    return Seen(run_record({"headline": {"AP": 0.5}, "training": LONG, **parts}), history or {}, RUN)


def over_epochs(*values):
    return list(range(1, len(values) + 1)), list(values)


def only(tmp_path, **parts):
    """The one piece of advice for a run without curves."""
    (found,) = advice(seen(**parts).record, tmp_path)
    return found


def test_a_figure_that_still_rises():
    found = still_rising(seen({"val/AP": over_epochs(0.1, 0.2, 0.25, 0.31)}))
    sentence = "AP still rose by 0.060 in the last quarter of the run: as many epochs again take about 8 minutes."
    assert found == Advice(sentence, "python train.py resume=runs/train/a trainer.max_epochs=40")
    limited = seen({"val/AP": over_epochs(0.1, 0.2, 0.25, 0.31)}, command="python train.py seed=1 budget.minutes=2.5")
    assert still_rising(limited).command == "python train.py seed=1 budget.minutes=5"
    short = seen({"val/AP": over_epochs(0.1, 0.2, 0.25, 0.31)}, training={**LONG, "minutes": 0.2})
    assert still_rising(short).sentence.endswith("as many epochs again take seconds.")
    assert still_rising(seen({"val/AP": over_epochs(0.1, 0.2, 0.30, 0.305)})) is None
    assert still_rising(seen({"val/AP": over_epochs(0.1, 0.4)})) is None  # two points are no curve
    assert still_rising(seen()) is None


def test_a_loss_that_rises_again():
    found = overfitted(seen({"val/loss": over_epochs(3.0, 2.0, 2.2, 2.4)}))
    assert found.command is None
    assert found.sentence.startswith("The loss on the validation split has risen by 20% since epoch 2: more images,")
    assert overfitted(seen({"val/loss": over_epochs(3.0, 2.0, 2.1, 2.1)})) is None
    assert overfitted(seen({"val/loss": over_epochs(2.0, 3.0)})) is None


def test_errors_that_a_larger_input_may_mend(tmp_path):
    words = "python train.py dataset.root=/data/boards data.size=224 seed=3"
    missed = only(tmp_path, AP50_lost_small={"missed": 0.2}, command=words)
    assert missed.sentence == (
        "Small objects that were not found cost 0.20 of AP50: a larger input may help, and takes about 20 minutes."
    )
    assert missed.command == "python train.py dataset.root=/data/boards seed=3 data.size=352"
    placed = only(tmp_path, AP50_lost={"localisation": 0.3}, command="seg_det.train")
    assert placed.sentence.startswith("Boxes that fit badly cost 0.30 of AP50") and placed.command is None
    wide = {"params": 1, "madds": 1, "input_size": [128, 256]}
    assert only(tmp_path, AP50_lost={"localisation": 0.3}, command="python train.py", model=wide).command == (
        "python train.py 'data.size=[192,384]'"
    )


def test_classes(tmp_path):
    confused = only(
        tmp_path, AP50_lost={"classification": 0.33}, confused={"a taken for b": 3, "cat taken for dog": 10}
    )
    assert "cost 0.33 of AP50, most often cat taken for dog: look at their labels" in confused.sentence
    weak = only(tmp_path, per_class={"cat": {"AP": 0.1}, "dog": {"AP": 0.7}}, command="python train.py seed=1")
    assert weak.sentence.startswith("cat has AP 0.10, all classes 0.40 in the mean: more images of it would help.")
    assert weak.command == "python train.py seed=1 data.balance=0.1"
    assert (
        advice(seen(per_class={"cat": {"AP": 0.01}, "dog": {"AP": 0.1}}).record, tmp_path) == []
    )  # nothing is learned yet
    masks = only(tmp_path, per_class={"pole": {"IoU": 0.1}, "road": {"IoU": 0.9}}, command="python train.py")
    assert masks.command is None


@pytest.mark.parametrize("parts", [{}, {"per_class": {"cat": {"AP": 0.1}}}, {"AP50_lost": {"missed": 0.5}}])
def test_where_nothing_stands_out_nothing_is_advised(tmp_path, parts):
    assert advice(seen(**parts).record, tmp_path) == []


def test_an_evaluation_gets_none_and_a_training_shows_it(tmp_path):
    lost = {"AP50_lost": {"localisation": 0.3}, "command": "python train.py"}
    assert advice(run_record({"headline": {"AP": 0.5}, **lost}), tmp_path) == []
    (tmp_path / "metrics.csv").write_text("epoch,step,val/AP\n0,1,0.1\n1,2,0.2\n2,3,0.3\n3,4,0.4\n")
    shown = summary(seen(**lost).record, tmp_path).splitlines()
    assert shown[-4].startswith("advice      AP still rose by 0.100") and "trainer.max_epochs=40" in shown[-3]
    assert shown[-2].startswith("advice      Boxes that fit badly")
    assert shown[-1] == "            python train.py data.size=352"
