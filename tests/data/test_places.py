"""Paths of a configuration count below the data set's root."""

import pytest

from seg_det.data.places import below
from seg_det.data.problems import Problems


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A working folder with a.json and both.json, and the root data/x with images/ and both.json."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "x" / "images").mkdir(parents=True)
    for name in ("a.json", "both.json", "data/x/both.json"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("images", "data/x/images"),
        ("a.json", "a.json"),  # only in the working folder
        ("none.json", "data/x/none.json"),  # which the message then names
        ("data/x/images", "data/x/images"),  # as ${dataset.root}/images stands in conf/
        ("data/x/none", "data/x/none"),
        (".", "data/x"),
        ("/else/where", "/else/where"),
    ],
)
def test_below_the_root(path, found, folders):
    problems = Problems("error")
    assert str(below("data/x", path, problems)) == found and problems.settle() == ()
    if not path.startswith("data"):
        assert str(below(folders / "data" / "x", path)).removeprefix(f"{folders}/") == found


def test_what_is_in_both_is_said(folders):
    problems = Problems("error")
    assert str(below("data/x", "both.json", problems)) == "data/x/both.json"
    assert problems.settle() == (
        "both.json is both in data/x and in the working folder: data/x/both.json was taken; for the other give its whole path",
    )
    assert str(below(None, "both.json")) == "both.json"  # a configuration of an earlier version


def test_the_root_as_working_folder(folders, monkeypatch):
    monkeypatch.chdir(folders / "data" / "x")
    problems = Problems("error")
    assert below(".", "both.json", problems).samefile("both.json") and problems.settle() == ()
    assert below(folders / "data" / "x", "both.json", problems).samefile("both.json") and problems.settle() == ()
