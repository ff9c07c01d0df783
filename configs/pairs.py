"""The siamese network of Laskar et al. (ICCVW 2017, arXiv 1707.09733), trained on image pairs.

  python run_train.py --config=configs/pairs.py --workdir=DIR

The default has the settings of the authors' published program (github.com/AaltoVision/
camera-relocalisation, commit 17a9ca8, folder cnn_part; the files are named below), with the loss of
their paper, where the program minimises mean squares. None but `seven` and `quick` has
been trained to the end here. `--config.data.dataset=seven_rooms` trains it on rendered rooms.

Variants, `--config=configs/pairs.py:NAME`:
  port       the schedule of the authors' later PyTorch program (github.com/AaltoVision/RelPoseNet):
             125,000 steps of 32 pairs, learning rate 1e-3 halved every 15,000.
  learned    as `port`, translation against rotation weighed by learned variances
             (Kendall and Cipolla, CVPR 2017).
  direction  as `port`, direction and log length of the translation in place of metres.
  seven      the head on the seven rendered rooms, on the cells that EfficientNet-lite0 has of moved
             and turned views with ImageNet's weights, and pairs as near as neighbours are
             (docs/experiments/training.md says why, and what comes of it). The
             features take an hour of one core, once, and the steps 20 minutes.
  demo       `seven` goes on from the weights in configs/weights, on a tenth of the pictures, for a
             minute (`make demo`).
  quick      ResNet-18 on small images of rendered rooms: three minutes, and nothing comes of it.
"""

import pathlib

import ml_collections
from ml_collections.config_dict import placeholder

from jaxreloc.usage import check_choice

WEIGHTS = pathlib.Path(__file__).parent / "weights"


def get_config(variant: str = "authors") -> ml_collections.ConfigDict:
    check_choice("variant of configs/pairs.py", variant, VARIANTS)
    config = _authors()
    VARIANTS[variant](config)
    return config.lock()


def _authors() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.task = "pose"
    config.seed = 333  # opts.lua, manualSeed
    config.batch_size = 64  # opts.lua, train_batch_size; over all devices together
    epoch = 40_000 // config.batch_size
    config.num_steps = 250 * epoch  # opts.lua, max_epoch

    config.data = ml_collections.ConfigDict()
    config.data.dataset = "seven_scenes"
    config.data.data_dir = placeholder(str)  # where prepared datasets lie; None: TFDS's default
    config.data.data_path = placeholder(str)  # your own photographs (posed_images)
    config.data.scenes = placeholder(tuple)  # None: all of the dataset
    config.data.train_split = "database"
    config.data.pair_target = "paper"  # rotations, baselines and overlaps as in their lists
    config.data.num_pairs = 40_000  # opts.lua, training_dataset_size (39,999)
    # The authors' lists (db_all_med_hard_*.txt) in place of mined pairs; each is taken whole.
    config.data.pair_list = placeholder(str)
    config.data.validation_pair_list = placeholder(str)
    # The published validation list, too, pairs frames of the training sequences.
    config.data.validation_split = "database"
    config.data.num_validation_pairs = 10_000  # opts.lua, validation_dataset_size (10,001)
    config.data.short_side = 256  # README.md: images resized beforehand
    config.data.image_size = placeholder(tuple)  # whole frames of this height and width instead
    config.data.crop = 224  # construct_minibatch.lua: random in training, centre in evaluation
    config.data.jitter = 0.4  # construct_minibatch.lua: brightness, contrast and saturation
    config.data.translation_frame = "camera"  # their labels are in "world" axes
    config.data.num_workers = 8  # processes that read frames ahead; 0: a thread
    config.data.cache_dir = placeholder(str)  # where resized frames are kept on disk
    config.data.skip_bad_frames = False  # True: leave out bad frames and their listed pairs

    config.model = ml_collections.ConfigDict()
    config.model.backbone = "resnet34"  # model.lua, from ImageNet weights
    config.model.pretrained = placeholder(str)  # None: random weights; or the path of a file
    config.model.pretrained = "default"  # downloaded once
    config.model.frozen_until = placeholder(str)  # such as "layer2": stays as it is up to there
    config.model.head = "concat"
    config.model.grid = placeholder(tuple)  # None: pooled features; or rows and columns of cells
    # Or a trained network of the same architecture to start from, in place of both.
    config.model.start_from = placeholder(str)
    # None ranks images by its own features, as in the paper; "imagenet" by untrained ones.
    config.model.retrieval = placeholder(str)
    config.model.dtype = "float32"
    config.model.remat = False

    config.loss = ml_collections.ConfigDict()
    config.loss.translation = "metric"
    config.loss.weighting = "fixed"
    config.loss.beta = 1.0  # opts.lua

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 0.1  # opts.lua
    config.optimizer.schedule = "steps"
    # main.lua: a tenth from each of epochs 31, 51, 81, 111, 151 and 201 on
    config.optimizer.decay_at = tuple(n * epoch for n in (30, 50, 80, 110, 150, 200))
    config.optimizer.decay_factor = 0.1
    config.optimizer.b1 = 0.9  # opts.lua, beta1
    config.optimizer.b2 = 0.999  # opts.lua, beta2
    config.optimizer.eps = 1e-8
    config.optimizer.warmup_steps = 0
    # opts.lua has 1e-5, which train.lua reads under another name and so does not apply.
    config.optimizer.weight_decay = 0.0
    config.optimizer.max_gradient_norm = placeholder(float)

    config.accumulation = 1
    config.log_every = 100
    config.validate_every = epoch
    config.checkpoint_every = epoch  # main.lua: a snapshot every 5 epochs
    return config


def _port(config: ml_collections.ConfigDict) -> None:
    config.seed = 1984
    config.batch_size = 32
    config.num_steps = 125_000
    config.optimizer.learning_rate = 1e-3
    config.optimizer.decay_at = tuple(range(15_000, config.num_steps, 15_000))
    config.optimizer.decay_factor = 0.5
    config.validate_every = config.checkpoint_every = 2_000


def _learned(config: ml_collections.ConfigDict) -> None:
    _port(config)
    config.loss.weighting = "learned"


def _direction(config: ml_collections.ConfigDict) -> None:
    _port(config)
    config.loss.translation = "direction_length"


def _seven(config: ml_collections.ConfigDict) -> None:
    config.task = "head"
    config.batch_size = 64
    config.num_steps = 40_000
    config.data.dataset = "seven_rooms"
    config.data.pair_target = "neighbors"
    config.data.num_pairs = 200_000
    config.data.num_validation_pairs = 1_000
    config.data.image_size = (192, 256)
    config.data.views = 9  # of each picture, whose features are computed once
    config.data.turn_deg = (30.0, 15.0, 8.0)  # up to, about the axes y, x, z of the camera
    config.data.move_m = (0.6, 0.25, 0.6)  # up to, along the axes x, y, z; needs depth
    config.model.grid = (3, 4)
    config.data.features_dir = "~/.cache/jaxreloc/features"
    config.model.backbone = "efficientnet_lite0"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 50
    config.optimizer.weight_decay = 0.05
    config.optimizer.frozen = ("backbone",)
    config.validate_every = 10_000
    config.checkpoint_every = 1_000


def _demo(config: ml_collections.ConfigDict) -> None:
    _seven(config)
    config.num_steps = 400
    config.data.dataset = "seven_rooms/small"
    config.data.num_pairs = 4_000
    config.data.num_validation_pairs = 400
    config.data.views = 2
    config.model.start_from = str(WEIGHTS / "seven_rooms")
    config.optimizer.learning_rate = 3e-4
    config.log_every = 50
    config.validate_every = 200
    config.checkpoint_every = 200


def _quick(config: ml_collections.ConfigDict) -> None:
    config.batch_size = 16
    config.num_steps = 240
    config.data.dataset = "synthetic_rooms"
    config.data.train_split = "train"
    config.data.validation_split = "validation"
    config.data.num_pairs = 8_000
    config.data.num_validation_pairs = 96
    config.data.short_side = 146
    config.data.crop = 128
    config.data.num_workers = 0
    config.model.backbone = "resnet18"
    config.model.pretrained = None
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 20
    config.log_every = 10
    config.validate_every = 120
    config.checkpoint_every = 100


VARIANTS = {
    "authors": lambda config: None,
    "port": _port,
    "learned": _learned,
    "direction": _direction,
    "seven": _seven,
    "demo": _demo,
    "quick": _quick,
}
