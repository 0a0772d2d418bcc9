"""Progress without a terminal: complete lines, one a minute and one at the end."""

import io
import sys
import time

import pytest
import tqdm.std

from seg_det import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(tqdm.std, "time", lambda: now[0])
    return now


def printed(monkeypatch, stream, clock, seconds, **settings):
    monkeypatch.setattr(sys, "stderr", stream)
    for _ in progress.progress_bar(range(10), "reading images", unit="image", **settings):
        clock[0] += seconds
    return stream.getvalue()


def test_a_line_a_minute_and_one_at_the_end(monkeypatch, clock):
    lines = printed(monkeypatch, io.StringIO(), clock, 25.0).splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "reading images: 3 of 10 in 01:15",
        "reading images: 6 of 10 in 02:30",
        "reading images: 9 of 10 in 03:45",
        "reading images: 10 of 10 in 04:10",
    ]


def test_nothing_of_what_is_short(monkeypatch, clock):
    assert printed(monkeypatch, io.StringIO(), clock, 0.15) == ""
    assert printed(monkeypatch, io.StringIO(), clock, 60.0, disable=True) == ""


def test_no_carriage_returns(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    with progress.made(desc="a.zip", unit="B", unit_scale=True, unit_divisor=1024) as bar:
        bar.refresh()
        clock[0] += 61
        bar.update(2048)
        bar.set_postfix(at="b")
        bar.clear()
    bar.close()
    line = "a.zip: 2.00k of ? in 01:01, 33.6B/s\n"
    assert stream.getvalue() == 2 * line  # after a minute, and at the end


def test_a_bar_on_a_terminal(monkeypatch, clock):
    assert "\rreading images:  30%|" in printed(monkeypatch, Terminal(), clock, 3.0)
