"""A library of an extra that is absent is one line, which says what to install."""

import importlib
import pathlib
import sys
import tomllib

import pytest

from jaxreloc.evaluation.report.rerun_recording import write_recording
from jaxreloc.formats.readers.ros_bag import picture_topic
from jaxreloc.formats.writers.answer_formats import answer_format
from jaxreloc.images import read_header
from jaxreloc.usage import UsageError
from tests.scripts import ROOT

HEIC = b"\0\0\0\x18ftypheic" + bytes(100)

# The library that is absent, what is imported or called then, and the extra that has it.
ABSENT = [
    ("faiss", "jaxreloc.localization.neighbors.faiss_index", "faiss"),
    ("matplotlib.figure", "jaxreloc.evaluation.plots", "eval"),
    ("ml_collections", "jaxreloc.config_flag", "train"),
    ("tensorboardX", "jaxreloc.training", "train"),
    ("tensorflow_datasets", "jaxreloc.data.tfds_frames", "datasets"),
    ("tensorflow_datasets", "tfds_builders", "datasets"),
    ("embreex.mesh_construction", "tfds_builders.rooms.graphics.ray_casting", "rooms"),
    ("fastapi", "jaxreloc.serving.request_limits", "serve"),
    ("pillow_heif", lambda: read_header(HEIC, "a.heic"), "heic"),
    ("plotly.offline", "jaxreloc.serving.page_files", "serve"),
    ("pycolmap", "jaxreloc.capture.sfm.quiet_colmap", "colmap"),
    ("pycolmap", lambda: answer_format("colmap", None, "MAP"), "colmap"),
    ("prometheus_client", "jaxreloc.serving.server_metrics", "serve"),
    ("python_multipart", "jaxreloc.serving.application", "serve"),
    ("ray", "jaxreloc.scale.cluster", "ray"),
    ("rerun", lambda: write_recording(pathlib.Path("a.rrd"), []), "rerun"),
    ("rosbags.highlevel", lambda: picture_topic(pathlib.Path("a.bag"), None), "ros"),
    ("uvicorn", "jaxreloc.serving.running", "serve"),
    ("trimesh", "tfds_builders.rooms.graphics.mesh_repair", "rooms"),
]


@pytest.mark.parametrize("library, used, extra", ABSENT)
def test_an_absent_library_names_its_extra(library, used, extra, monkeypatch, tmp_path):
    for name in list(sys.modules):  # what is imported already stays so for the other tests
        if not callable(used) and (name == used or name.startswith(f"{used}.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=rf"pip install 'jaxreloc\[{extra}\]'"):
        used() if callable(used) else importlib.import_module(used)
    assert extra in extras() and not list(tmp_path.iterdir())


def test_all_has_every_extra_but_those_of_a_machine_or_a_developer():
    (everything,) = extras()["all"]
    named = set(everything.partition("[")[2].rstrip("]").split(","))
    assert named == set(extras()) - {"all", "cuda", "dev", "docs", "torch"}


def extras() -> dict[str, list[str]]:
    project = tomllib.loads(pathlib.Path(ROOT, "pyproject.toml").read_text())["project"]
    return project["optional-dependencies"]
