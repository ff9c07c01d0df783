"""Builds a map of a scene once, then localizes images in it.

  python run_localize.py map --images=PHOTOS --out=MAP
  python run_localize.py map add --map=MAP --images=MORE
  python run_localize.py map remove --map=MAP --names=a.jpg,b.jpg
  python run_localize.py query --map=MAP --images=IMAGES_OR_VIDEO --out=poses.txt
"""

import pathlib

from absl import flags

from jaxreloc.formats.localized_poses import LINE_FORMATS
from jaxreloc.usage import UsageError, check_choice, run_script

FLAGS = flags.FLAGS
flags.DEFINE_string("images", None, "Posed photographs (map), or pictures or a video (query).")
flags.DEFINE_string("map", None, "Folder of the map.")
flags.DEFINE_string("out", None, "The new map, or the file of the queries' poses.")
flags.DEFINE_string("workdir", None, "Folder that run_train.py trained in; without it, no training.")
flags.DEFINE_string("checkpoint", None, "Folder of one saved network, instead of --workdir.")
flags.DEFINE_list("names", [], "Images to remove.")
flags.DEFINE_string("format", "tum", f"Of the poses: {', '.join(LINE_FORMATS)}.")
flags.DEFINE_string("intrinsics", None, "File with the queries' `fx fy cx cy`.")
flags.DEFINE_integer("num_neighbors", 5, "Retrieved images a query.", lower_bound=1)
flags.DEFINE_enum("method", "robust", ["robust", "paper"], "Fusion of the relative poses.")


def main(argv: list[str]) -> None:
    command = " ".join(argv[1:])
    check_choice("command", command, COMMANDS)
    print(COMMANDS[command]())


def build_map() -> str:
    from jaxreloc.localization import run

    if FLAGS.workdir and FLAGS.checkpoint:
        raise UsageError("--workdir and --checkpoint both name a network; give one of them")
    return run.build_map(required("images"), required("out"), FLAGS.workdir or FLAGS.checkpoint)


def add_to_map() -> str:
    from jaxreloc.localization import run

    return run.add_to_map(required("map"), required("images"))


def remove_from_map() -> str:
    from jaxreloc.localization import run

    return run.remove_from_map(required("map"), required("names"))


def query() -> str:
    from jaxreloc.localization import run

    check_choice("format", FLAGS.format, LINE_FORMATS)
    return run.localize_images(
        required("map"),
        required("images"),
        pathlib.Path(required("out")),
        LINE_FORMATS[FLAGS.format],
        intrinsics_path=FLAGS.intrinsics,
        num_neighbors=FLAGS.num_neighbors,
        fusion_method=FLAGS.method,
    )


def required(flag: str):
    """The value of a flag that the command cannot do without."""
    if not FLAGS[flag].value:
        raise UsageError(f"--{flag} is missing; see --help")
    return FLAGS[flag].value


COMMANDS = {
    "map": build_map,
    "map add": add_to_map,
    "map remove": remove_from_map,
    "query": query,
}

if __name__ == "__main__":
    run_script(main)
