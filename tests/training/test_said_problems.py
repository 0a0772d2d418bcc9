"""What a training says of its data before it begins."""

from seg_det.data.records import DetectionSource
from seg_det.training.run import say_problems


def test_a_sentence_is_said_once_and_long_lists_are_cut(caplog):
    of_split = ("val has nothing of the class owl",)
    train = DetectionSource("pets train", (), (), ("a", "b", "a", "c", "d", "e", *of_split))
    say_problems(train, DetectionSource("pets val", (), (), (*of_split, "f")))
    assert caplog.messages == [
        "a",
        "b",
        "c",
        "pets train: 3 more problems, which problems.json in the run folder will list.",
        "f",
    ]
