"""The compact descriptor of the correlation head, trained on true matches from depth.

  python run_train.py --config=configs/descriptor.py --workdir=DIR

The backbone stays frozen. `configs/correlation.py` then trains the metric head on its matches:
`--config.model.pretrained_description=DIR`.

Variants, `--config=configs/descriptor.py:NAME`:
  quick      procedural rooms of 256x192 pixels, which need no download.
"""

import ml_collections
from ml_collections.config_dict import placeholder

from jaxreloc.usage import check_choice


def get_config(variant: str = "furnished") -> ml_collections.ConfigDict:
    check_choice("variant of configs/descriptor.py", variant, VARIANTS)
    config = _furnished()
    VARIANTS[variant](config)
    return config.lock()


def _furnished() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.task = "descriptors"
    config.seed = 0
    config.batch_size = 8
    config.num_steps = 6_000

    config.data = ml_collections.ConfigDict()
    config.data.dataset = "synthetic_rooms/furnished_large"
    config.data.data_dir = placeholder(str)  # where prepared datasets lie; None: TFDS's default
    config.data.data_path = placeholder(str)  # your own photographs (posed_images); needs depth
    config.data.train_splits = ("train", "train_query")
    config.data.validation_splits = ("validation", "validation_query")
    config.data.num_pairs = 40_000
    config.data.num_validation_pairs = 400
    config.data.image_sizes = ((384, 512), (192, 256))  # canvases, in turn
    config.data.image_size = (384, 512)  # the canvas of whoever uses the network
    config.data.jitter = 0.4
    config.data.num_workers = 0  # processes that read frames ahead; 0: a thread
    config.data.cache_dir = placeholder(str)  # where resized frames are kept on disk
    config.data.skip_bad_frames = False  # True: leave out bad frames and their pairs

    config.model = ml_collections.ConfigDict()
    config.model.backbone = "efficientnet_lite0"
    config.model.pretrained = "default"
    config.model.head = "correlation"
    config.model.description = "learned"
    config.model.pretrained_description = placeholder(str)
    config.model.dtype = "float32"
    config.model.remat = False

    config.estimator = "matches"  # the metric head is not trained

    config.loss = ml_collections.ConfigDict()
    config.loss.fine = 0.5
    config.loss.fine_offset = 0.5
    config.loss.detail = 0.3
    config.loss.detail_offset = 1.0

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 200
    config.optimizer.weight_decay = 1e-4
    config.optimizer.max_gradient_norm = 1.0
    config.optimizer.frozen = ("backbone", "head/regression")

    config.accumulation = 1
    config.log_every = 100
    config.validate_every = 1_000
    config.checkpoint_every = 500
    return config


def _quick(config: ml_collections.ConfigDict) -> None:
    config.num_steps = 60
    config.batch_size = 4
    config.data.dataset = "synthetic_rooms"
    config.data.num_pairs = 2_000
    config.data.num_validation_pairs = 32
    config.data.image_sizes = ((192, 256),)
    config.data.image_size = (192, 256)
    config.optimizer.warmup_steps = 10
    config.log_every = 10
    config.validate_every = 30
    config.checkpoint_every = 30


VARIANTS = {"furnished": lambda config: None, "quick": _quick}
