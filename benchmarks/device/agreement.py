"""Every kernel and the whole query, against the same code on the CPU.

Consensus searches choose by comparing sums, and rounding turns some choices, so that their answers
are held to a share of the queries; what has no choice in it, to a relative difference.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.angles import rotation_deg
from benchmarks.device import device_inputs as inputs
from benchmarks.device.sizes import Sizes
from benchmarks.networks import pair_step
from jaxreloc.geometry.absolute_pose import estimate_absolute_pose
from jaxreloc.geometry.fusion import Method, fuse
from jaxreloc.geometry.relative_pose import estimate_relative_pose
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.neighbors.retrieval import most_similar
from jaxreloc.localization.networks.loading import pretrained_network
from jaxreloc.models import build_network, init_variables

Answers = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Poses:
    """A bound on poses [n, 7] or [n, 4, 4]: this share of them is as near as this."""

    metres: float
    degrees: float
    share: float

    def check(self, here: np.ndarray, cpu: np.ndarray) -> tuple[float, bool]:
        """The share that is as near, and whether it is enough."""
        same = (_distance(here, cpu) <= self.metres) & (_angle_deg(here, cpu) <= self.degrees)
        return float(np.mean(same)), bool(np.mean(same) >= self.share)

    def __str__(self) -> str:
        return f"{self.share:.1%} within {1e3 * self.metres:g} mm, {self.degrees:g} deg"


@dataclasses.dataclass(frozen=True)
class Relative:
    """A bound on |here - cpu| / |cpu|."""

    most: float

    def check(self, here: np.ndarray, cpu: np.ndarray) -> tuple[float, bool]:
        """The difference, and whether it is small enough; what is not finite never is."""
        difference = float(np.linalg.norm(here - cpu) / max(np.linalg.norm(cpu), 1e-30))
        return difference, bool(np.isfinite(difference) and difference <= self.most)

    def __str__(self) -> str:
        return f"relative difference {self.most:g}"


@dataclasses.dataclass(frozen=True)
class Same:
    """A bound on the share of equal entries."""

    share: float

    def check(self, here: np.ndarray, cpu: np.ndarray) -> tuple[float, bool]:
        """The share that is equal, and whether it is enough."""
        return float(np.mean(here == cpu)), bool(np.mean(here == cpu) >= self.share)

    def __str__(self) -> str:
        return f"{self.share:.1%} equal"


Bound = Poses | Relative | Same
# Convolutions and matrix products are computed in TensorFloat-32 where JAX's default says so.
BOUNDS: dict[str, Bound] = {
    "fusion, paper": Poses(1e-3, 0.05, 0.99),
    "fusion, robust": Poses(1e-3, 0.05, 0.99),
    "fusion, median": Poses(1e-3, 0.05, 0.99),
    "relative pose": Poses(5e-3, 0.1, 0.95),
    "absolute pose": Poses(2e-3, 0.05, 0.95),
    "retrieval, images": Same(0.999),
    "retrieval, similarities": Relative(1e-5),
    "resnet18": Relative(5e-3),
    "resnet34": Relative(5e-3),
    "efficientnet_lite0": Relative(2e-2),
    "training, loss": Relative(2e-2),
    "training, gradient": Relative(5e-2),
    "whole query": Poses(5e-3, 0.2, 0.9),
    "whole query, found": Same(0.9),
}


def answers(sizes: Sizes, note: Callable[[str], None] = lambda name: None) -> Answers:
    """What each kernel says on the default device; `note` is told before each."""
    found: Answers = {}
    for part in (_fusion, _relative_pose, _absolute_pose, _retrieval, _networks, _training, _query):
        note(part.__name__.strip("_").replace("_", " "))
        found |= jax.device_get(part(sizes))
    return {name: np.asarray(value) for name, value in found.items()}


def compare(here: Answers, cpu: Answers) -> list[dict[str, object]]:
    """A row for each bound: what was found, and whether it holds."""
    rows = []
    for name, bound in BOUNDS.items():
        if name not in here and name not in cpu:
            continue
        value, holds = bound.check(here[name], cpu[name])
        rows.append({"kernel": name, "bound": str(bound), "found": value, "holds": holds})
    return rows


def reference(sizes_name: str, folder: pathlib.Path) -> Answers:
    """The answers of this machine's CPU, from a process of its own."""
    path = folder / "reference.npz"
    command = [sys.executable, "-m", "benchmarks.gpu", f"--out={folder}", f"--size={sizes_name}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    subprocess.run([*command, f"--reference={path}"], env=environment, check=True)
    with np.load(path) as stored:
        return dict(stored)


def _fusion(sizes: Sizes):
    poses = inputs.fusion_inputs(sizes.queries)
    return {
        f"fusion, {method}": fuse(*poses, method=method).world_from_query.wxyz_xyz
        for method in get_args(Method)
    }


def _relative_pose(sizes: Sizes):
    matches = inputs.relative_pose_inputs(sizes.pairs)
    found = estimate_relative_pose(
        *matches, threshold=3 / 400, key=jax.random.key(0), config=sizes.relative
    )
    return {"relative pose": found.db_from_query.wxyz_xyz}


def _absolute_pose(sizes: Sizes):
    given = inputs.absolute_pose_inputs(sizes.scenes)
    estimate = jax.jit(
        lambda x: estimate_absolute_pose(
            **x, key=jax.random.key(0), config=sizes.absolute
        ).world_from_query.wxyz_xyz
    )
    each = (jax.tree.map(lambda x: x[i], given) for i in range(sizes.scenes))
    return {"absolute pose": np.stack([estimate(x) for x in each])}


def _retrieval(sizes: Sizes):
    database = inputs.unit_vectors(min(sizes.descriptors, 50_000), 512, seed=5)
    queries = inputs.unit_vectors(64, 512, seed=6) + 2 * database[:64]
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    index, similarity = most_similar(
        jnp.asarray(queries), jnp.asarray(database), num_neighbors=10
    )
    return {"retrieval, images": index, "retrieval, similarities": similarity}


def _networks(sizes: Sizes):
    images = inputs.noise_images(sizes.images, sizes.image_side)
    found = {}
    for backbone in sizes.backbones:
        network = build_network(inputs.model(backbone))
        variables = init_variables(network, jax.random.key(0))
        encode = jax.jit(lambda v, x, network=network: network.apply(v, x, method="encode").pooled)
        found[backbone] = encode(variables, images)
    return found


def _training(sizes: Sizes):
    """Two steps: the second loss depends on the first gradient."""
    from configs import pairs

    config = pairs.get_config("port").unlock()
    config.model.update(inputs.model(sizes.backbones[-1]), pretrained=None)
    train_step, state = pair_step.make_step(config, jax.local_devices()[:1])
    batch = {k: x[None] for k, x in pair_step.ready_batch(4, sizes.image_side).items()}
    steps = []
    for _ in range(2):
        state, metrics = train_step(state, batch)
        steps.append(jax.device_get(metrics))
    return {
        "training, loss": np.stack([x["loss"][0] for x in steps]),
        "training, gradient": steps[0]["gradient_norm"],
    }


def _query(sizes: Sizes):
    database = inputs.photographed_room(sizes.map_images, sizes.canvas, seed=7)
    queries = inputs.photographed_room(sizes.localized, sizes.canvas, seed=8)
    network = pretrained_network(database.image_sizes, long_side=sizes.canvas)
    scene_map = SceneMap.from_images(network, encode_frames(database, network))
    localizer = Localizer(scene_map, mode=sizes.modes[0])
    found = [
        localizer(image, intrinsics)
        for image, intrinsics in zip(queries.images, queries.intrinsics, strict=True)
    ]
    poses = [x.world_from_query if x.success else np.eye(4) for x in found]
    return {
        "whole query": np.stack(poses),
        "whole query, found": np.array([x.success for x in found]),
    }


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(_translation(a) - _translation(b), axis=-1)


def _translation(x: np.ndarray) -> np.ndarray:
    return x[..., 4:] if x.shape[-1] == 7 else x[..., :3, 3]


def _angle_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.shape[-1] == 7:
        difference = np.minimum(
            np.linalg.norm(a[..., :4] - b[..., :4], axis=-1),
            np.linalg.norm(a[..., :4] + b[..., :4], axis=-1),
        )
        return np.rad2deg(4 * np.arcsin(np.minimum(difference / 2, 1)))
    return rotation_deg(a[..., :3, :3], b[..., :3, :3])

