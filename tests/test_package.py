"""The wheel, installed where nothing else is, localizes photographs; run by `make test-package`.

It installs from the package index, hundreds of megabytes the first time.
"""

import dataclasses
import email
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest

import jaxreloc
from jaxreloc.formats.rigid_arrays import quaternion_wxyz
from tests.scripts import ROOT
from tfds_builders.rooms.generation import render_room
from tfds_builders.rooms.settings import PROCEDURAL

pytestmark = pytest.mark.package
MAX_WHEEL_BYTES = 5e6
# JAX with SciPy and NumPy takes 550 MB of it, Flax's own requirements 110 and OpenCV 200.
MAX_INSTALLED_BYTES = 950e6
LEFT_OUT = ("tensorflow", "tensorflow-cpu", "tensorflow-datasets", "grain", "trimesh", "pytest")
LEFT_OUT += ("matplotlib", "pycolmap", "embreex", "array-record", "ml-collections", "torch")
PATH = dataclasses.replace(
    PROCEDURAL, width=320, height=240, database_paths=1, query_paths=1, frames_per_path=24
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Along one path, by turns in `database` and `queries`, with their poses and intrinsics."""
    folder = tmp_path_factory.mktemp("photographs")
    frames = render_room(PATH, "test", 0).database
    k = frames.intrinsics[0]
    np.testing.assert_array_equal(frames.intrinsics, np.broadcast_to(k, frames.intrinsics.shape))
    (folder / "intrinsics.txt").write_text(f"{k[0, 0]} {k[1, 1]} {k[0, 2]} {k[1, 2]}\n")
    rows = {"database": [], "queries": []}
    for i, image in enumerate(frames.images):
        side = "queries" if i % 2 else "database"
        (folder / side).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / side / f"{i:02d}.png"), image[..., ::-1])
        pose = frames.world_from_cam[i]
        values = (*quaternion_wxyz(pose[:3, :3]), *pose[:3, 3])
        rows[side].append(",".join([f"{i:02d}.png", *(f"{x:.9f}" for x in values)]))
    (folder / "poses.csv").write_text("\n".join(["image,qw,qx,qy,qz,tx,ty,tz", *rows["database"]]))
    truth = {f"{i:02d}.png": frames.world_from_cam[i] for i in range(1, len(frames), 2)}
    return folder, truth


def test_the_wheel_is_small_and_has_what_the_package_needs(wheel):
    assert wheel.stat().st_size < MAX_WHEEL_BYTES
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        head = email.message_from_bytes(file.read(metadata))
    assert head["Version"] == jaxreloc.__version__ and head["License-Expression"] == "Apache-2.0"
    needed = (
        "py.typed",
        "models/weights/correlation_head.safetensors",
        "evaluation/report/page.html",
        "serving/page/index.html",
    )
    assert {f"jaxreloc/{name}" for name in needed} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    folders = {pathlib.PurePosixPath(name).parts[0] for name in names}
    assert folders == {"jaxreloc", "tfds_builders", f"jaxreloc-{jaxreloc.__version__}.dist-info"}
    assert not [name for name in names if "dummy_data" in name or "_test." in name]


@pytest.mark.parametrize("resolution", ["highest", "lowest-direct"])
def test_an_installed_wheel_localizes_photographs(wheel, photographs, resolution, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    uv = (sys.executable, "-m", "uv", "pip")
    install = (*uv, "install", "--quiet", "--python", python)
    requirements = ("--resolution", resolution, "--requirements", ROOT / "pyproject.toml")
    subprocess.run([*install, *requirements], check=True)
    subprocess.run([*install, "--no-deps", wheel], check=True)
    listed = subprocess.run(
        [*uv, "list", "--format=json", "--python", python], check=True, capture_output=True
    )
    versions = {entry["name"]: entry["version"] for entry in json.loads(listed.stdout)}
    assert versions["jaxreloc"] == jaxreloc.__version__ and not set(LEFT_OUT) & set(versions)
    installed = (tmp_path / "venv" / "lib").rglob("*")
    size = sum(path.stat().st_size for path in installed if path.is_file())
    print(f"{resolution}: {size / 1e6:.0f} MB, {versions}")
    if resolution == "highest":
        assert size < MAX_INSTALLED_BYTES

    environment = {"PATH": os.defpath, "HOME": str(tmp_path)}

    def run(*command):
        result = subprocess.run(
            [tmp_path / "venv" / "bin" / command[0], *command[1:]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    folder, truth = photographs
    poses = (f"--poses={folder}/poses.csv", f"--images={folder}/database")
    assert f"{len(truth)} images" in run("jaxreloc", "map", "build", *poses, "--out=map")
    queries = (f"--images={folder}/queries", f"--intrinsics={folder}/intrinsics.txt")
    run("jaxreloc", "query", "--map=map", *queries, "--out=found", "--format=jsonl")
    found = [json.loads(line) for line in (tmp_path / "found").read_text().splitlines()]
    assert [answer["name"] for answer in found] == list(truth)
    errors = [
        np.linalg.norm(np.array(answer["world_from_cam"])[:3, 3] - truth[answer["name"]][:3, 3])
        if answer["success"]
        else np.inf
        for answer in found
    ]
    print(f"{resolution}: errors {np.sort(errors).round(3)} m")
    assert np.median(errors) < 0.1
    code = "import jaxreloc, sys; jaxreloc.Localizer; print('orbax' in sys.modules)"
    assert run("python", "-c", code).strip() == "False"
