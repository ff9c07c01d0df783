"""The metric head on the matches of learned descriptors, trained on rendered rooms.

  python run_train.py --config=configs/correlation.py --workdir=DIR

The matches are made first, once, and kept in `data.matches_dir`. Descriptors of your own come from
`configs/descriptor.py`: `--config.model.pretrained_description=DIR`.

Variants, `--config=configs/correlation.py:NAME`:
  quick      procedural rooms of 256x192 pixels, which need no download.
"""

import ml_collections
from ml_collections.config_dict import placeholder

from jaxreloc.usage import check_choice


def get_config(variant: str = "furnished") -> ml_collections.ConfigDict:
    check_choice("variant of configs/correlation.py", variant, VARIANTS)
    config = _furnished()
    VARIANTS[variant](config)
    return config.lock()


def _furnished() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.task = "matches"
    config.seed = 0
    config.batch_size = 64
    config.num_steps = 20_000

    config.data = ml_collections.ConfigDict()
    config.data.sources = (_rooms("synthetic_rooms/furnished_large"),)  # drawn by their weights
    config.data.data_dir = placeholder(str)  # where prepared datasets lie; None: TFDS's default
    config.data.data_path = placeholder(str)  # your own photographs (posed_images)
    config.data.skip_bad_frames = False  # True: leave out bad frames, and list them
    config.data.matches_dir = "~/.cache/jaxreloc/matches"
    config.data.image_sizes = ((384, 512), (288, 384), (192, 256))  # canvases, in turn
    config.data.image_size = (384, 512)  # the canvas of whoever uses the network
    config.data.train_pairs_per_scene = 300
    config.data.validation_pairs_per_scene = 300
    config.data.unrelated_share = 0.2  # pairs beside these that share nothing
    # Of each pair, the surest; augmentation leaves the 96 that the head takes.
    config.data.loaded_matches = 120

    config.data.augmentation = ml_collections.ConfigDict()
    config.data.augmentation.turn_std_deg = (4.0, 4.0, 8.0)
    config.data.augmentation.kept = 0.8

    config.model = ml_collections.ConfigDict()
    config.model.backbone = "efficientnet_lite0"
    config.model.pretrained = "default"
    config.model.head = "correlation"
    config.model.description = "learned"
    config.model.pretrained_description = placeholder(str)
    config.model.pretrained_description = "shipped"
    config.model.dtype = "float32"
    config.model.remat = False

    config.estimator = "refined"  # how whoever uses the network relates pairs

    config.loss = ml_collections.ConfigDict()
    config.loss.rotation = 6.0
    config.loss.direction = 0.5
    config.loss.spread = 0.1
    config.loss.overlap = 0.2

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 500
    config.optimizer.weight_decay = 0.02
    config.optimizer.max_gradient_norm = 1.0
    # A description "imagenet" has no parameters to freeze: name the backbone alone.
    config.optimizer.frozen = ("backbone", "head/description")

    config.accumulation = 1
    config.log_every = 100
    config.validate_every = 1_000
    config.checkpoint_every = 500
    return config


def _rooms(dataset: str) -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {
            "dataset": dataset,
            "weight": 1.0,
            "train_splits": ("train", "train_query"),
            "validation_splits": ("validation", "validation_query"),
        }
    )


def _quick(config: ml_collections.ConfigDict) -> None:
    config.num_steps = 400
    config.data.sources = (_rooms("synthetic_rooms"),)
    config.data.image_sizes = ((192, 256),)
    config.data.image_size = (192, 256)
    config.data.train_pairs_per_scene = 150
    config.data.validation_pairs_per_scene = 100
    config.optimizer.warmup_steps = 20
    config.log_every = 20
    config.validate_every = 200
    config.checkpoint_every = 100


VARIANTS = {"furnished": lambda config: None, "quick": _quick}
