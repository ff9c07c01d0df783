"""Trains a network on pairs of images.

  python run_train.py --config=configs/pairs.py --workdir=DIR
  python run_train.py --config=configs/pairs.py:quick --workdir=DIR --config.num_steps=100
"""

from absl import flags

from jaxreloc.training.config_flag import define_config
from jaxreloc.usage import UsageError, run_script

FLAGS = flags.FLAGS
define_config()
flags.DEFINE_string("workdir", None, "Folder for checkpoints, logs and the trained network.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UsageError(f"unknown argument {argv[1]!r}; flags start with --")
    for name in ("config", "workdir"):
        if FLAGS[name].value is None:
            raise UsageError(f"--{name} is missing; see python run_train.py --help")
    from jaxreloc.training import train_and_evaluate

    train_and_evaluate(FLAGS.config, FLAGS.workdir)


if __name__ == "__main__":
    run_script(main)
