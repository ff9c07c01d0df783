"""A library of an extra that is absent is one line, which says what to install."""

import importlib
import pathlib
import sys
import tomllib

import pytest

from jaxreloc.usage import UsageError
from tests.scripts import ROOT

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
    ("plotly.offline", "jaxreloc.serving.page_files", "serve"),
    ("pycolmap", "jaxreloc.capture.sfm.quiet_colmap", "colmap"),
    ("prometheus_client", "jaxreloc.serving.server_metrics", "serve"),
    ("python_multipart", "jaxreloc.serving.application", "serve"),
    ("ray", "jaxreloc.scale.cluster", "ray"),
    ("uvicorn", "jaxreloc.serving.running", "serve"),
    ("trimesh", "tfds_builders.rooms.graphics.mesh_repair", "rooms"),
]


@pytest.mark.parametrize("library, module, extra", ABSENT)
def test_an_absent_library_names_its_extra(library, module, extra, monkeypatch):
    for name in list(sys.modules):  # what is imported already stays so for the other tests
        if name == module or name.startswith(f"{module}."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=rf"pip install 'jaxreloc\[{extra}\]'"):
        importlib.import_module(module)
    assert extra in extras()


def test_all_has_every_extra_but_those_of_a_machine_or_a_developer():
    (everything,) = extras()["all"]
    named = set(everything.partition("[")[2].rstrip("]").split(","))
    assert named == set(extras()) - {"all", "cuda", "dev", "docs", "torch"}


def extras() -> dict[str, list[str]]:
    project = tomllib.loads(pathlib.Path(ROOT, "pyproject.toml").read_text())["project"]
    return project["optional-dependencies"]
