"""What is shown on a terminal and elsewhere."""

import io

import numpy as np

from jaxreloc.training.monitoring import progress
from jaxreloc.training.monitoring.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def set_clock(monkeypatch, *times):
    ticks = iter(times)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(ticks))


def test_plain_lines_where_there_is_no_terminal(monkeypatch):
    set_clock(monkeypatch, 0.0, 10.0, 14.0)
    out = io.StringIO()
    shown = Progress(100, 8, out=out)
    shown.start(20)
    shown.advance()
    assert shown.report(40, 0.12345) == 40  # 20 steps of 8 pairs in 4 seconds
    shown.close()
    assert out.getvalue() == "step 40/100: loss 0.1235, 40 pairs/s, 00:12 left\n"


def test_lines_are_a_minute_apart_but_for_the_first_and_the_last(monkeypatch):
    set_clock(monkeypatch, 0.0, *np.arange(0.0, 200.0, 8.0))
    out = io.StringIO()
    shown = Progress(240, 8, out=out)
    shown.start(0)
    speeds = [shown.report(step, 1.0) for step in range(10, 250, 10)]
    assert speeds == [10.0] * 24
    steps = [int(line.split("/")[0].removeprefix("step ")) for line in out.getvalue().splitlines()]
    assert steps == [10, 90, 170, 240]  # after 8, 72, 136 and 192 seconds


def test_time_not_spent_on_steps_does_not_count(monkeypatch):
    set_clock(monkeypatch, 0.0, 0.0, 2.0, 500.0, 502.0)
    shown = Progress(100, 8, out=io.StringIO())
    shown.start(0)
    assert shown.report(4, 1.0) == 16
    shown.start(4)  # validation took its time
    assert shown.report(8, 1.0) == 16


def test_a_bar_on_a_terminal():
    out = Terminal()
    shown = Progress(100, 8, out=out)
    shown.start(20)
    shown.advance()
    shown.report(21, 0.5)
    shown.say("validation: fine")
    shown.close()
    text = out.getvalue()
    assert "21%" in text and "loss 0.5" in text and "pairs/s" in text
    assert "validation: fine\n" in text and "step 21" not in text


def test_silence_in_other_processes():
    for out in (io.StringIO(), Terminal()):
        shown = Progress(10, 8, shown=False, out=out)
        shown.start(0)
        shown.advance()
        shown.report(1, 1.0)
        shown.say("hello")
        shown.close()
        assert out.getvalue() == ""
