import os
import stat

import pytest

from jaxreloc import files
from jaxreloc.usage import UsageError


def test_write_replaces_whole_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "a.txt"
    files.write_text(path, "old")
    files.write_text(path, "é")
    assert path.read_text(encoding="utf-8") == "é"
    assert os.listdir(path.parent) == ["a.txt"]
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IRUSR


@pytest.mark.parametrize("durable", [True, False])
def test_a_durable_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch, durable):
    path, synced = tmp_path / "a.txt", []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(path.exists()))
    with files.replacing(path, durable=durable) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and synced == [False] * durable


def test_failure_in_the_middle_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError, match="crash"):
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("crash")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/a.txt: cannot be written"):
        files.write_text(tmp_path / "file" / "a.txt", "")
