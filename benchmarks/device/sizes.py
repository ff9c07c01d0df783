"""How much `benchmarks.gpu` runs: its default, and what a CPU rehearses in a minute."""

import dataclasses

from jaxreloc.geometry.absolute_pose import AbsolutePoseConfig
from jaxreloc.geometry.relative_pose import RelativePoseConfig
from jaxreloc.geometry.resection.pose_hypotheses import HypothesisConfig


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Batches are of queries, pairs or images, as the row says."""

    # Agreement.
    queries: int
    pairs: int
    scenes: int
    images: int
    image_side: int
    canvas: int  # long side of the whole query's images
    map_images: int
    localized: int
    modes: tuple[str, ...]  # of the localizer
    relative: RelativePoseConfig
    absolute: AbsolutePoseConfig
    # Throughput.
    fusion: tuple[int, ...]
    relative_pose: tuple[int, ...]
    absolute_pose: tuple[int, ...]
    matching: tuple[int, ...]
    encoding: tuple[int, ...]
    retrieval: tuple[int, ...]
    descriptors: int
    seconds: float  # measured for each row
    # Training steps.
    backbones: tuple[str, ...]
    dtypes: tuple[str, ...]
    batches: tuple[int, ...]
    crop: int
    matmul: tuple[int, ...] | None
    # Training from packed frames.
    steps: int
    training_batch: int
    training_frames: int


DEFAULT = Sizes(
    queries=4096,
    pairs=256,
    scenes=64,
    images=8,
    image_side=224,
    canvas=512,
    map_images=24,
    localized=16,
    modes=("default", "fast"),
    relative=RelativePoseConfig(),
    absolute=AbsolutePoseConfig(),
    fusion=(1, 1_000, 100_000, 1_000_000),
    relative_pose=(1, 16, 256, 2048),
    absolute_pose=(1, 16, 128),
    matching=(1, 10, 80),
    encoding=(1, 16, 128),
    retrieval=(1, 16, 256),
    descriptors=1_000_000,
    seconds=0.5,
    backbones=("resnet34", "efficientnet_lite0"),
    dtypes=("float32", "bfloat16"),
    batches=(8, 32, 128, 512),
    crop=224,
    matmul=None,
    steps=400,
    training_batch=64,
    training_frames=600,
)
FEW = RelativePoseConfig(hypotheses=32, candidates=4, candidate_steps=1, final_steps=(1, 1, 1))
TINY = Sizes(
    queries=32,
    pairs=4,
    scenes=2,
    images=2,
    image_side=32,
    canvas=128,
    map_images=6,
    localized=2,
    modes=("fast",),
    relative=FEW,
    absolute=AbsolutePoseConfig(
        hypotheses=HypothesisConfig(
            pairs=2, lengths=8, triples=16, first_sample=16, first_best=8, sample=32, relative=FEW
        ),
        candidates=2,
        candidate_steps=2,
        steps=2,
        focal_triples=16,
    ),
    fusion=(1, 64),
    relative_pose=(2,),
    absolute_pose=(1,),
    matching=(1,),
    encoding=(1,),
    retrieval=(1, 4),
    descriptors=1_000,
    seconds=0.01,
    backbones=("resnet18",),  # which compiles in seconds
    dtypes=("bfloat16",),
    batches=(2,),
    crop=32,
    matmul=(64,),
    steps=4,
    training_batch=4,
    training_frames=12,
)
SIZES = {"default": DEFAULT, "tiny": TINY}
