"""Nothing that is read is run: a pickle wherever an array is read, `../` wherever an archive is."""

import io
import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
from etils import epath

from jaxreloc.formats import pair_lists
from jaxreloc.usage import UsageError
from tests.faults import targets
from tfds_builders.seven_scenes import scene_files


class Payload:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def ran(tmp_path):
    return tmp_path / "it was run"


def npy(payload) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([payload] * 3, object), allow_pickle=True)
    return file.getvalue()


def npz(payload) -> bytes:
    file = io.BytesIO()
    np.savez(file, version=1, x_query=np.array([payload] * 3, object))
    return file.getvalue()


def torch_zip(payload) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(payload, 2))
    return file.getvalue()


def bare(payload) -> bytes:
    return pickle.dumps(payload, 2)


READERS = [
    ("map without checksums", "segments/000000/descriptors.npy"),
    ("map without checksums", "segments/000000/network_intrinsics.npy"),
    ("map without checksums", "segments/000000/feature_000.npy"),
    ("map", "segments/000000/descriptors.npy"),
    ("saved network", "network.safetensors"),
    ("PyTorch weights", "zip.pth"),
    ("PyTorch weights", "legacy.pth"),
    ("matched pairs", "a.matches.npz"),
]


@pytest.mark.parametrize("form", [npy, npz, torch_zip, bare])
@pytest.mark.parametrize("target, name", READERS)
def test_no_pickle_is_run(tmp_path, rng, ran, target, name, form):
    folder = tmp_path / "folder"
    folder.mkdir()
    targets.TARGETS[target].make(folder, rng)
    (folder / name).write_bytes(form(Payload(ran)))
    with pytest.raises(UsageError, match=name.rpartition("/")[2]):
        targets.TARGETS[target].read(folder)
    assert not ran.exists()


def test_a_pickle_is_no_list_of_estimates(tmp_path, ran):
    (tmp_path / "e.bin").write_bytes(bare(Payload(ran)))
    with pytest.raises(UsageError):
        pair_lists.read_relative_estimates(tmp_path / "e.bin", 3)
    assert not ran.exists()


@pytest.mark.parametrize("name", ["../outside", "chess/../../outside", "/outside"])
def test_no_archive_leads_outside(tmp_path, name):
    """Archives are read where they are; nothing is unpacked under a name that they give."""
    (tmp_path / "outside").write_text("secret")
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("../../written", "by the archive")
    path = tmp_path / "data" / "chess.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("chess/TrainSplit.txt", "sequence1")
        archive.writestr("chess/seq-01.zip", inner.getvalue())
        archive.writestr(name, "of the archive")
    with scene_files.open_scene(epath.Path(path), "chess") as scene:
        assert scene_files.sequences(scene, "train", "chess") == ["seq-01"]
        with scene_files.open_sequence(scene, "seq-01", "chess") as sequence:
            assert "secret" not in [entry.name for entry in sequence.iterdir()]
    assert (tmp_path / "outside").read_text() == "secret"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["chess.zip", "data", "outside"]
