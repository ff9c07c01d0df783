"""Matching of coarse cells in the light of both images, trained on rooms made to be hard.

  python run_train.py --config=configs/context.py --workdir=DIR

The backbone and the description are those that ship, and stay frozen: the cells of all pictures are
described once. What it costs and what comes of it: docs/experiments/training.md.

Variants, `--config=configs/context.py:NAME`:
  quick      procedural rooms of 256x192 pixels, which need no download.
"""

import ml_collections
from ml_collections.config_dict import placeholder

from jaxreloc.usage import check_choice


def get_config(variant: str = "hard") -> ml_collections.ConfigDict:
    check_choice("variant of configs/context.py", variant, VARIANTS)
    config = _hard()
    VARIANTS[variant](config)
    return config.lock()


def _hard() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.task = "context"
    config.seed = 0
    config.batch_size = 8
    config.num_steps = 10_000

    config.data = ml_collections.ConfigDict()
    config.data.dataset = "synthetic_rooms/furnished_hard"
    config.data.data_dir = placeholder(str)  # where prepared datasets lie; None: TFDS's default
    config.data.data_path = placeholder(str)  # your own photographs (posed_images); needs depth
    config.data.train_splits = ("train", "train_query")
    config.data.validation_splits = ("validation", "validation_query")
    config.data.up = (0.0, 0.0, 1.0)  # pictures are turned upright; None: as they are
    config.data.num_pairs = 40_000
    config.data.num_validation_pairs = 160
    config.data.image_size = (384, 512)  # the canvas, which is that of whoever uses the network
    config.data.thinned_share = 0.8  # of the batches, which have every second cell along each axis
    config.data.features_dir = "~/.cache/jaxreloc/features"

    config.model = ml_collections.ConfigDict()
    config.model.backbone = "efficientnet_lite0"
    config.model.pretrained = "default"
    config.model.head = "correlation"
    config.model.description = "learned"
    config.model.pretrained_description = "shipped"
    config.model.context = True
    config.model.dtype = "float32"
    config.model.remat = False

    config.estimator = "matches"  # the metric head is not trained

    config.loss = ml_collections.ConfigDict()
    config.loss.none = 0.3

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 300
    config.optimizer.weight_decay = 1e-3
    config.optimizer.max_gradient_norm = 1.0
    config.optimizer.frozen = ("backbone", "head/description", "head/regression")

    config.accumulation = 1
    config.log_every = 100
    config.validate_every = 1_500
    config.checkpoint_every = 500
    return config


def _quick(config: ml_collections.ConfigDict) -> None:
    config.num_steps = 60
    config.batch_size = 4
    config.data.dataset = "synthetic_rooms"
    config.data.num_pairs = 2_000
    config.data.num_validation_pairs = 32
    config.data.image_size = (192, 256)
    config.optimizer.warmup_steps = 10
    config.log_every = 10
    config.validate_every = 30
    config.checkpoint_every = 30


VARIANTS = {"hard": lambda config: None, "quick": _quick}
