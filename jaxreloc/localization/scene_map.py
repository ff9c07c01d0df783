"""The database side of a scene: what is computed once, before the first query."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.network import InferenceNetwork


@dataclasses.dataclass(frozen=True)
class SceneMap:
    """Poses, retrieval descriptors and pair features of M database images."""

    network: InferenceNetwork  # made the descriptors and the features
    names: tuple[str, ...]
    world_from_db: jaxlie.SE3  # batch axis M
    intrinsics: Float[np.ndarray, "M 3 3"]  # of the network's input image
    descriptors: Float[Array, "M dim"]  # L2-normalised
    features: PyTree  # what the pair head takes, on the host, leading axis M

    def __len__(self) -> int:
        return len(self.names)

    def neighbor_features(
        self, neighbors: Int[np.ndarray, "N"]
    ) -> tuple[PyTree, Float[np.ndarray, "N 3 3"]]:
        """Features and intrinsics of the database images `neighbors`, leading axis N."""
        return jax.tree.map(lambda x: x[neighbors], self.features), self.intrinsics[neighbors]


def build_scene_map(
    frames: PosedFrames,
    network: InferenceNetwork,
    *,
    batch_size: int = 16,
    progress: Callable[[range], object] = lambda batches: batches,
) -> SceneMap:
    """Encodes every database image once, in batches of one fixed shape.

    Args:
      progress: wraps the iteration over batches, as tqdm does.
    """
    n = len(frames)
    parts, intrinsics = [], []
    for start in progress(range(0, n, batch_size)):
        indices = range(start, min(start + batch_size, n))
        prepared = [network.prepare(frames.images[i], frames.intrinsics[i]) for i in indices]
        intrinsics += [k for _, k in prepared]
        images = np.stack([image for image, _ in prepared])
        padding = [(0, batch_size - len(images))] + [(0, 0)] * 3
        features = network.encode(np.pad(images, padding))
        encoded = (features, network.descriptor(features))
        parts.append(jax.tree.map(lambda x, count=len(images): np.asarray(x[:count]), encoded))
    features, descriptors = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    return SceneMap(
        network=network,
        names=frames.names,
        world_from_db=jaxlie.SE3.from_matrix(jnp.asarray(frames.world_from_cam, jnp.float32)),
        intrinsics=np.stack(intrinsics).astype(np.float32),
        descriptors=jnp.asarray(descriptors),
        features=features,
    )
