"""A user's folder of posed photographs and a small network, for tests of the scripts."""

import json
import pathlib

import cv2
import jax
import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.models import build
from jaxreloc.models.weights import saved_network

MODEL = {"backbone": "resnet18", "head": "concat"}


def save_small_network(workdir: pathlib.Path) -> None:
    """A ResNet-18 with random weights, as training would leave it in `workdir`."""
    variables = build.init_variables(build.build_network(MODEL), jax.random.key(0))
    config = {"model": MODEL, "data": {"short_side": 72, "crop": 64}}
    saved_network.save_network(workdir / "best", config, variables)


def write_photographs(folder: pathlib.Path, rng: np.random.Generator, n: int = 12) -> None:
    """Textured pictures `images/NN.png` with random poses in a transforms.json."""
    frames = []
    (folder / "images").mkdir(parents=True)
    for i in range(n):
        name = f"images/{i:02d}.png"
        picture = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (128, 96))
        cv2.imwrite(str(folder / name), picture)
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_rotvec(rng.normal(size=3) * 0.1).as_matrix()
        pose[:3, 3] = rng.normal(size=3)
        frames.append({"file_path": name, "transform_matrix": pose.tolist()})
    camera = {"fl_x": 100, "fl_y": 100, "cx": 64, "cy": 48, "w": 128, "h": 96}
    (folder / "transforms.json").write_text(json.dumps(camera | {"frames": frames}))
