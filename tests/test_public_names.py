"""The public face: every name is there, and none costs anything until it is used."""

import subprocess
import sys

import pytest

import jaxreloc
from jaxreloc.geometry.fusion import fuse
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.networks.loading import load_network
from tests.scripts import ROOT

HEAVY = ("jax", "numpy", "flax", "cv2", "scipy", "tyro")
PUBLIC = {"Localizer", "SceneMap", "Localization", "fuse", "Reliability", "estimate_relative_pose"}
PUBLIC |= {"load_network", "pretrained_network", "Client"}


def test_the_names_are_those_of_their_modules():
    assert set(jaxreloc.__all__) == PUBLIC == set(jaxreloc._HOMES)
    assert PUBLIC < set(dir(jaxreloc))
    assert jaxreloc.fuse is fuse and jaxreloc.Localizer is Localizer
    assert jaxreloc.load_network is load_network
    for name in PUBLIC:
        assert callable(getattr(jaxreloc, name)), name
    with pytest.raises(AttributeError, match="'jaxreloc' has no attribute 'localiser'"):
        _ = jaxreloc.localiser


def test_the_import_brings_nothing_heavy():
    code = f"import jaxreloc, sys; print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_the_client_needs_neither_jax_nor_the_extra():
    absent = ("jax", "flax", "fastapi", "uvicorn", "httpx2")
    code = (
        "import jaxreloc, sys; jaxreloc.Client"
        f"; print([x for x in {absent} if x in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
