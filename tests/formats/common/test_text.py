import os

import pytest

from jaxreloc.formats.common.text import numbers, parse_json, parse_rows, read_rows, read_text
from jaxreloc.usage import UsageError


def test_rows_know_their_line_and_leave_out_comments():
    rows = parse_rows("# head\r\n1 2\r\n\r\n  a\tb \r\n", "f.txt")
    assert [(row.source, row.fields) for row in rows] == [
        ("f.txt:2", ("1", "2")),
        ("f.txt:4", ("a", "b")),
    ]


def test_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeff1,2".encode())
    assert read_rows(tmp_path / "a.txt", separator=",")[0].fields == ("1", "2")


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(UsageError, match="none.txt: cannot be read"):
        read_text(tmp_path / "none.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(UsageError, match="binary: not a text file"):
        read_text(tmp_path / "binary")


@pytest.mark.parametrize("field", ["x", "nan", "-inf", ""])
def test_numbers_are_finite(field):
    with pytest.raises(UsageError, match="^f.txt:3: the pose "):
        numbers(["1", field], "f.txt:3", "the pose")


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "{", "nul"])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(UsageError, match="^a.json.*: not valid JSON"):
        parse_json(text, "a.json")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "poses.txt")
    with pytest.raises(UsageError, match="poses.txt: is not a file but"):
        read_text(tmp_path / "poses.txt")
