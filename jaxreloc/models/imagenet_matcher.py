"""A network that matches photographs with ImageNet's features and no training at all.

  python -m jaxreloc.models.imagenet_matcher --out=FOLDER

writes it to FOLDER as training would, for run_eval.py and run_localize.py.
"""

import pathlib

import jax
from absl import flags

from jaxreloc.models import build, saved_network
from jaxreloc.usage import UsageError, run_script

MODEL = {"backbone": "efficientnet_lite0", "head": "correlation", "pretrained": "default"}
SIZE_MULTIPLE = 32  # pixels; the backbone halves an image five times


def save_imagenet_matcher(
    folder: str | pathlib.Path, image_size: tuple[int, int] = (512, 512)
) -> pathlib.Path:
    """Writes the network and returns its file; its pose regression is not trained.

    Args:
      image_size: height and width of the canvas that whole images are fitted into.

    Raises:
      UsageError: a side is no multiple of 32, or the folder cannot be written.
    """
    if any(side <= 0 or side % SIZE_MULTIPLE for side in image_size):
        height, width = image_size
        raise UsageError(f"canvas of {width}x{height}: give sides that are multiples of 32")
    network = build.build_network(MODEL)
    variables = build.first_variables(MODEL, network, jax.random.key(0))
    config = {"model": MODEL, "data": {"image_size": image_size}}
    return saved_network.save_network(folder, config, variables)


def main(argv: list[str]) -> None:
    del argv
    if flags.FLAGS.out is None:
        raise UsageError("--out is missing; name a folder for the network")
    print(save_imagenet_matcher(flags.FLAGS.out, (flags.FLAGS.height, flags.FLAGS.width)))


if __name__ == "__main__":
    flags.DEFINE_string("out", None, "Folder for the network.")
    flags.DEFINE_integer("height", 512, "Height of the canvas that images are fitted into.")
    flags.DEFINE_integer("width", 512, "Its width; a square fits portraits and landscapes.")
    run_script(main)
