"""What is shown of a long job on a terminal, and in a log."""

import io

import pytest

from jaxreloc.progress_bars import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def shown(monkeypatch):
    """Runs a job of n items that take so many seconds each; what it writes."""

    def run(out, n, seconds, **options):
        clock = [0.0]
        monkeypatch.setattr("sys.stderr", out)
        monkeypatch.setattr("tqdm.std.time", lambda: clock[0])
        for _ in progress_bar(range(n), "matching", **options):
            clock[0] += seconds
        return out.getvalue()

    return run


def test_a_line_a_minute_where_there_is_no_terminal(shown):
    """Of 20 items that take 16 s each, one in four ends the first after a minute."""
    assert shown(io.StringIO(), 20, 16.0).splitlines() == [
        "matching: 4 of 20 images, 04:16 left",
        "matching: 8 of 20 images, 03:12 left",
        "matching: 12 of 20 images, 02:08 left",
        "matching: 16 of 20 images, 01:04 left",
        "matching: 20 of 20 images, 00:00 left",
    ]


def test_nothing_is_written_of_what_takes_less(shown):
    assert shown(io.StringIO(), 50, 1.0) == ""


def test_what_cannot_be_counted_has_a_share(shown):
    lines = shown(io.StringIO(), 4, 61.0, counted=False).splitlines()
    assert lines[0] == "matching: 25%, 03:03 left"


def test_a_bar_on_a_terminal_which_goes_when_it_is_done(shown):
    text = shown(Terminal(), 20, 16.0, unit="room")
    assert "50%" in text and "room" in text and "02:40" in text
    assert text.endswith("\r") and "\n" not in text


def test_it_counts_what_it_is_told(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    with progress_bar(what="encoding", total=4) as bar:
        bar.update(3)
        assert bar.n == 3 and bar.total == 4
