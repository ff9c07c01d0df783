"""A network, frames and a config so small that whole runs fit into tests."""

import functools

import jax
import jax.numpy as jnp
import jaxlie
import ml_collections
import numpy as np
from flax import linen as nn
from jaxtyping import Array

from configs import pairs as pairs_config
from jaxreloc.data import datasets
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.models import SiameseNetwork, build, init_variables, layers
from jaxreloc.models.backbones.features import Features
from jaxreloc.models.heads.concat import ConcatHead

IMAGE_SIZE = 32


class TinyBackbone(nn.Module):
    """One strided convolution with batch norm; keeps where things are, to tell views apart."""

    compute: layers.Compute
    taps: tuple[str, ...] = ()

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Features:
        x = layers.normalise_pixels(images, (127.5,) * 3, (60.0,) * 3)
        x = layers.ConvNorm(8, 8, self.compute, strides=8)(x, train)
        x = jax.image.resize(nn.relu(x).astype(np.float32), (len(x), 4, 4, 8), "linear")
        return Features(x.reshape(len(x), -1), {})


def network(axis_name: str | None = None, dtype=jnp.float32) -> SiameseNetwork:
    compute = layers.Compute(dtype, axis_name)
    return SiameseNetwork(TinyBackbone(compute), ConcatHead(compute))


@functools.cache
def variables() -> dict:
    """Random variables of the network, on the host."""
    return jax.device_get(init_variables(network(), jax.random.key(0)))


def smooth_images(rng: np.random.Generator, count: int) -> np.ndarray:
    """uint8 [count, IMAGE_SIZE, IMAGE_SIZE, 3], each of 4x4 flat patches of random colours."""
    patches = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return patches.repeat(IMAGE_SIZE // 4, axis=1).repeat(IMAGE_SIZE // 4, axis=2)


def intrinsics(count: int) -> np.ndarray:
    """float32 [count, 3, 3] of a 60-degree camera."""
    center = (IMAGE_SIZE - 1) / 2
    focal = IMAGE_SIZE / 2 / np.tan(np.radians(30))
    matrix = np.float32([[focal, 0, center], [0, focal, center], [0, 0, 1]])
    return np.repeat(matrix[None], count, axis=0)


def batch(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """A batch of unrelated pairs up to 45 deg and about a metre apart, without device axis."""
    axis = rng.normal(size=(count, 3))
    angle = rng.uniform(0, np.pi / 4, (count, 1))
    rotation = axis / np.linalg.norm(axis, axis=1, keepdims=True) * angle
    with jax.numpy_rank_promotion("allow"):
        q_wxyz = np.asarray(jax.vmap(jaxlie.SO3.exp)(rotation).wxyz)
    t = rng.normal(size=(count, 3)) * 0.6
    return {
        "db_image": smooth_images(rng, count),
        "query_image": smooth_images(rng, count),
        "db_from_query": np.concatenate([q_wxyz, t], axis=1).astype(np.float32),
        "db_intrinsics": intrinsics(count),
        "query_intrinsics": intrinsics(count),
        "mask": np.ones(count, bool),
        "pair_index": np.arange(count),
    }


def frames(rng: np.random.Generator, count: int = 24, scene: str = "hall") -> PosedFrames:
    """Cameras that look along z within 20 deg and a metre of each other."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    with jax.numpy_rank_promotion("allow"):
        angles = rng.uniform(-0.35, 0.35, (count, 3))
        poses[:, :3, :3] = jax.vmap(lambda w: jaxlie.SO3.exp(w).as_matrix())(angles)
    poses[:, :3, 3] = rng.uniform(-0.5, 0.5, (count, 3))
    return PosedFrames(
        scene=scene,
        names=tuple(f"{k:03d}.png" for k in range(count)),
        world_from_cam=poses,
        intrinsics=intrinsics(count).astype(np.float64),
        image_sizes=np.full((count, 2), IMAGE_SIZE),
        images=list(smooth_images(rng, count)),
    )


def install(set_attribute, set_item) -> None:
    """Makes the network and the frames known by name, through pytest's monkeypatch or for good."""
    set_item(build.BACKBONES, "tiny", TinyBackbone)
    set_attribute(datasets, "load_scenes", _load_scenes)


def _load_scenes(dataset: str, split: str, **options) -> list[PosedFrames]:
    del dataset, options
    seed = {"train": 1, "validation": 2}[split]
    rng = np.random.default_rng(seed)
    return [frames(rng, scene=f"{split}-{k}") for k in range(2)]


def config() -> ml_collections.ConfigDict:
    """The demo's config on these frames, a few steps long; unlocked."""
    tiny = pairs_config.get_config("quick").unlock()
    tiny.batch_size = 8
    tiny.num_steps = 6
    tiny.data.pair_target = "overlapping"
    tiny.data.num_pairs = 40
    tiny.data.num_validation_pairs = 11
    tiny.data.short_side = tiny.data.crop = IMAGE_SIZE
    tiny.model.backbone = "tiny"
    tiny.optimizer.schedule = "constant"
    tiny.optimizer.warmup_steps = 0
    tiny.log_every = 2
    tiny.validate_every = 4
    tiny.checkpoint_every = 2
    return tiny
