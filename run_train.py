"""Trains a network on pairs of images: `jaxreloc train`, from the project's folder.

  python run_train.py --config=configs/pairs.py --workdir=DIR
  python run_train.py --config=configs/pairs.py:quick --workdir=DIR --config.num_steps=100
"""

from jaxreloc.cli import main

if __name__ == "__main__":
    main.script("train")
