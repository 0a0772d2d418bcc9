"""What ``python -m tests.kill`` tries, that its comparison sees a difference, and three of its kills."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from exactness import differences

ROOT = Path(__file__).parent.parent


def test_differences_are_seen():
    one = {"a": [torch.tensor([1.0, float("nan")]), {"b": 2}], "dirpath": "x", "c": None}
    assert differences(one, {**one, "dirpath": "y"}) == []
    assert differences(one, {**one, "a": [torch.tensor([1.5, float("nan")]), {"b": 2}]}) == ["/a/0"]
    assert differences(one, {**one, "a": [torch.tensor([1.0, 0.0]), {"b": 3}]}) == ["/a/0", "/a/1/b"]
    assert differences(one, {"a": one["a"][:1], "dirpath": "x"}) == ["/c", "/a"]
    assert differences(torch.zeros(1), torch.zeros(1, dtype=torch.float64), "dtype") == ["dtype"]


@pytest.mark.slow
def test_three_killed_processes():
    words = [sys.executable, "-m", "tests.kill", "--kills", "3", "--seed", "6"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=900)
    lines = done.stdout.splitlines()
    assert lines[-1] == "3 of 3 equal, 3 of them killed before they ended", done.stdout + done.stderr
    assert Counter(line.split()[1] for line in lines[:-1]) == {"ssdlite": 1, "raspp": 1, "classifier": 1}
