"""A folder appears whole or not at all, and what a killed process left is removed."""

import os
import signal
import subprocess
import sys

import pytest

from jaxreloc.new_folder import new_folder
from jaxreloc.usage import UsageError

WRITER = """
import pathlib, sys, time
from jaxreloc.new_folder import new_folder
with new_folder(pathlib.Path(sys.argv[1])) as folder:
    (folder / "large").write_bytes(b"0" * 1_000_000)
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def writer(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "a")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"writing\n"
        yield process
        process.kill()


def write(folder):
    with new_folder(folder) as temporary:
        (temporary / "file").write_text("content")


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    write(tmp_path / "a")
    with pytest.raises(KeyError), new_folder(tmp_path / "b") as temporary:
        (temporary / "file").write_text("content")
        raise KeyError
    assert os.listdir(tmp_path) == ["a"] and os.listdir(tmp_path / "a") == ["file"]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, writer):
    (tmp_path / ".others").mkdir()
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(os.listdir(tmp_path)) == 2
    write(tmp_path / "b")
    assert sorted(os.listdir(tmp_path)) == [".others", "b"]


def test_what_a_living_process_writes_stays(tmp_path, writer):
    write(tmp_path / "b")
    (unfinished,) = tmp_path.glob(".a.*")
    assert (unfinished / "large").stat().st_size == 1_000_000


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/a: cannot be written"), new_folder(
        tmp_path / "file" / "a"
    ):
        pass


def test_a_folder_that_another_has_made_meanwhile_is_said(tmp_path):
    with pytest.raises(UsageError, match="folder: exists; choose another folder"):
        with new_folder(tmp_path / "folder") as temporary:
            (temporary / "mine").touch()
            (tmp_path / "folder").mkdir()
            (tmp_path / "folder" / "theirs").touch()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["theirs"]
