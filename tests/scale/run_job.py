"""Jobs with the sizes of a test: `python -m tests.scale.run_job build|serve ...`."""

import functools
import logging
import pathlib
import sys

from jaxreloc import interrupts
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.localization.jobs.querying import open_localizer

PIECE, SEGMENT = 5, 20


def build(images: str, out: str, address: str) -> None:
    from jaxreloc.scale import distributed_building

    print(
        distributed_building.build_map(
            images,
            out,
            long_side=128,
            address=None if address == "local" else address,
            workers=2,
            piece_size=PIECE,
            segment_size=SEGMENT,
        )
    )


def opening(map_or_folder):
    localizer = open_localizer(map_or_folder, quarter_turns=False)
    localizer.warm_up()
    return localizer


def serve(maps: str, port: str, address: str, replicas: str, shards: str) -> None:
    from jaxreloc.scale import ray_serving
    from jaxreloc.serving.request_limits import Limits

    served = ray_serving.Served(
        pathlib.Path(maps),
        opening,
        None,
        1 << 30,
        Limits(answer_s=400.0),
        None,
        (),
        replicas=int(replicas),
        shards=int(shards),
        min_replicas=int(replicas),
    )
    ray_serving.serve_on_ray(
        served,
        host="127.0.0.1",
        port=int(port),
        address=None if address == "local" else address,
    )


if __name__ == "__main__":
    interrupts.install()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    use_compilation_cache()
    functools.partial({"build": build, "serve": serve}[sys.argv[1]], *sys.argv[2:])()
