"""Replicas on this machine that serve toy maps: `python -m tests.scale.toy_replicas ...`.

FOLDER/opened has a line for each opening: the process and the map. While FOLDER/held is there,
queries wait.
"""

import logging
import os
import pathlib
import sys

from jaxreloc import interrupts
from jaxreloc.scale import ray_serving
from jaxreloc.serving.request_limits import Limits
from tests.serving import toy_maps
from tests.serving.toy_server import HeldLocalizer


def opening(folder: pathlib.Path) -> HeldLocalizer:
    toy_maps.install(setattr)
    HeldLocalizer.folder = folder.parents[1]
    with open(HeldLocalizer.folder / "opened", "a") as file:
        file.write(f"{os.getpid()} {folder.name}\n")
    return HeldLocalizer(toy_maps.SceneMap.open(folder))


def main(folder: str, port: str, at_first: str, most: str) -> None:
    served = ray_serving.Served(
        pathlib.Path(folder) / "maps",
        opening,
        None,
        1 << 30,
        Limits(answer_s=400.0),
        None,
        (),
        replicas=int(most),
        min_replicas=int(at_first),
    )
    ray_serving.serve_on_ray(
        served, host="127.0.0.1", port=int(port), address=None, num_cpus=int(most) + 1
    )


if __name__ == "__main__":
    interrupts.install()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(*sys.argv[1:])
