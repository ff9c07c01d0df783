"""Peak memory and time of the commands by the number of images, each in a process of its own.

  python -m benchmarks.trust.resources [--sizes=100,10000] [--jobs=map,query,eval,train]

Pictures and their features are made up, so that 10,000 of them need neither a camera nor hours:
`map` writes a map of given features, which is what encoding leaves; its time an image comes on top
(`benchmarks.speed.localization_speed`). `query` opens that map and asks for 5 pictures, `eval` for
20. `train` mines pairs of the images and makes 3 steps of `configs/pairs.py:quick`. What compiles
is in the seconds.
"""

import functools
import multiprocessing
import pathlib
import re
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import tabulate
from absl import flags
from scipy.spatial.transform import Rotation

from configs import pairs
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.data import datasets
from jaxreloc.evaluation.evaluate import evaluate_scene
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.jobs.building import SEGMENT_SIZE
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import CellDepth, EncodedImages, encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.models.weights.network_weights import shipped_matcher
from jaxreloc.training import train_and_evaluate
from jaxreloc.usage import run_script

_SIZES = flags.DEFINE_list("sizes", ["100", "10000"], "Images.")
_JOBS = flags.DEFINE_list("jobs", ["map", "query", "eval", "train"], "Of these, in this order.")

CANVAS = (192, 256)
QUERIES = {"query": 5, "eval": 20}
STEPS = 3


def made_up_frames(rng: np.random.Generator, count: int, scene: str = "hall") -> PosedFrames:
    """Cameras within a metre and 20 degrees of each other; their pictures are one picture."""
    height, width = CANVAS
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(rng.uniform(-0.35, 0.35, (count, 3))).as_matrix()
    poses[:, :3, 3] = rng.uniform(-0.5, 0.5, (count, 3))
    intrinsics = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    return PosedFrames(
        scene=scene,
        names=tuple(f"{i:05d}.jpg" for i in range(count)),
        world_from_cam=poses,
        intrinsics=np.tile(intrinsics, (count, 1, 1)),
        image_sizes=np.tile([width, height], (count, 1)),
        images=[rng.integers(0, 256, (height, width, 3), np.uint8)] * count,
    )


def made_up_images(rng: np.random.Generator, network: MatchNetwork, count: int):
    """Encoded images in parts, as a build gives them: noise of the network's shapes."""
    frames = made_up_frames(rng, count)
    (one,) = (encode_frames(frames.select([0]), network),)
    grid = network.cell_pixels().shape[:2]
    for start in range(0, count, SEGMENT_SIZE):
        part = frames.select(range(start, min(start + SEGMENT_SIZE, count)))
        n = len(part)
        descriptors = rng.normal(size=(n, one.descriptors.shape[1])).astype(np.float32)
        yield EncodedImages(
            names=part.names,
            world_from_cam=part.world_from_cam,
            intrinsics=part.intrinsics,
            image_sizes=part.image_sizes,
            network_intrinsics=np.repeat(one.network_intrinsics, n, axis=0),
            descriptors=descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True),
            features=tuple(_noise(rng, n, np.asarray(leaf)[0]) for leaf in one.features),
            pictures=list(one.pictures) * n,
            depth=CellDepth(rng.integers(0, 1 << 16, (n, *grid), np.uint16), np.ones(n, "f4")),
        )


def _noise(rng: np.random.Generator, count: int, like: np.ndarray) -> np.ndarray:
    values = rng.integers(0, 60, (count, *like.shape), np.uint8)
    if like.dtype.kind not in "iu":
        values = values / np.float32(60)
    return values.astype(like.dtype)


def build(folder: pathlib.Path, count: int) -> None:
    network, rng = MatchNetwork(shipped_matcher(CANVAS)), np.random.default_rng(0)
    SceneMap.create(folder / "map", network, made_up_images(rng, network, count))


def query(folder: pathlib.Path, count: int) -> None:
    del count
    locate = Localizer(SceneMap.open(folder / "map"), quarter_turns=False)
    frames = made_up_frames(np.random.default_rng(1), QUERIES["query"])
    for image, matrix in zip(frames.images, frames.intrinsics, strict=True):
        locate(image, matrix)


def evaluate(folder: pathlib.Path, count: int) -> None:
    del count
    locate = Localizer(SceneMap.open(folder / "map"), quarter_turns=False)
    queries = made_up_frames(np.random.default_rng(1), QUERIES["eval"])
    evaluate_scene(locate, queries, queries, methods=("nearest", "network"))


def train(folder: pathlib.Path, count: int) -> None:
    rng = np.random.default_rng(2)
    datasets.load_scenes = lambda dataset, split, **options: [made_up_frames(rng, count, split)]
    config = pairs.get_config("quick").unlock()
    config.data.pair_target = "overlapping"
    config.num_steps = config.log_every = STEPS
    config.data.num_validation_pairs = config.batch_size
    train_and_evaluate(config, folder / "workdir")


JOBS: dict[str, Callable[[pathlib.Path, int], None]] = {
    "map": build,
    "query": query,
    "eval": evaluate,
    "train": train,
}


def measured(job: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and the most megabytes that a new process held at any time of `job`."""
    return in_new_process(_timed, job)


def in_new_process(function: Callable, *arguments: object) -> Any:
    """What a function returns in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, function, *arguments))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


def _send(pipe, function: Callable, *arguments: object) -> None:
    pipe.send(function(*arguments))


def _timed(job: Callable[[], object]) -> tuple[float, float]:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start, peak_bytes() / 1e6


def peak_bytes() -> int:
    """Of this process; what `getrusage` says counts the one that it was forked from, too."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status).group(1)) << 10


def _job(name: str, folder: pathlib.Path, count: int) -> None:
    use_compilation_cache()
    jax.config.update("jax_platforms", "cpu")
    JOBS[name](folder, count)


def main(argv: list[str]) -> None:
    del argv
    rows = []
    for count in map(int, _SIZES.value):
        with tempfile.TemporaryDirectory() as folder:
            for name in _JOBS.value:
                job = functools.partial(_job, name, pathlib.Path(folder), count)
                seconds, megabytes = measured(job)
                rows.append({"job": name, "images": count, "s": seconds, "peak MB": megabytes})
                print(rows[-1], flush=True)
    print(tabulate.tabulate(rows, headers="keys", tablefmt="github", floatfmt=".0f"))


if __name__ == "__main__":
    run_script(main)
