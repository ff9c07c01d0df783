"""Builds a map of a scene once, then localizes images in it.

  python run_localize.py map --images=PHOTOS --out=MAP
  python run_localize.py map --images=PICTURES --poses=FILE_OR_MODEL --out=MAP
  python run_localize.py map add --map=MAP --images=MORE
  python run_localize.py map remove --map=MAP --names=a.jpg,b.jpg
  python run_localize.py query --map=MAP --images=IMAGES_OR_VIDEO --out=poses.txt
"""

import pathlib

from absl import flags

from jaxreloc.compilation_cache import use_compilation_cache
from jaxreloc.formats.localized_poses import LINE_FORMATS
from jaxreloc.usage import UsageError, check_choice, run_script

FLAGS = flags.FLAGS
OWN_FLAGS = (
    flags.DEFINE_string(
        "images", None, "Posed photographs (map); pictures, a video or camera:0 (query)."
    ),
    flags.DEFINE_string("poses", None, "File or model of the poses, if apart from the images."),
    flags.DEFINE_string("map", None, "Folder of the map."),
    flags.DEFINE_string("out", None, "The new map, or the file of the queries' poses."),
    flags.DEFINE_string(
        "workdir", None, "Folder that run_train.py trained in; without it, the network that ships."
    ),
    flags.DEFINE_string("checkpoint", None, "Folder of one saved network, instead of --workdir."),
    flags.DEFINE_integer(
        "long_side", 512, "Of images in the network that ships; 256 is fast.", lower_bound=64
    ),
    flags.DEFINE_bool("skip_bad_frames", False, "Leave bad frames out, and list them."),
    flags.DEFINE_list("names", [], "Images to remove."),
    flags.DEFINE_string("format", "tum", f"Of the poses: {', '.join(LINE_FORMATS)}."),
    flags.DEFINE_string("intrinsics", None, "File with the queries' `fx fy cx cy`."),
    flags.DEFINE_integer("num_neighbors", 5, "Retrieved images a query.", lower_bound=1),
    flags.DEFINE_enum("method", "robust", ["robust", "paper"], "Fusion of the relative poses."),
    flags.DEFINE_float(
        "min_baseline",
        None,
        "Distance that retrieved images keep from each other, in the map's unit; 0 takes the most "
        "similar ones, none given a share of the map's extent.",
        lower_bound=0.0,
    ),
    flags.DEFINE_enum(
        "index", "exact", ["exact", "faiss"], "Search for similar images; faiss for huge maps."
    ),
    flags.DEFINE_bool(
        "quarter_turns",
        True,
        "Look at refused images again, turned by quarter turns, as a phone on its side takes them.",
    ),
    flags.DEFINE_bool("viz", False, "Write OUT_report.html: cameras, queries and their matches."),
    flags.DEFINE_string("rerun", None, "Write this .rrd file for the Rerun viewer (an extra)."),
)


def main(argv: list[str]) -> None:
    command = " ".join(argv[1:])
    check_choice("command", command, COMMANDS)
    run, needed, optional = COMMANDS[command]
    check_flags(command, needed, optional)
    use_compilation_cache()
    print(run())


def check_flags(command: str, needed: tuple[str, ...], optional: tuple[str, ...]) -> None:
    """Raises UsageError for a flag that is missing, or that the command does not know."""
    for flag in OWN_FLAGS:
        if flag.name in needed and not flag.value:
            raise UsageError(f"--{flag.name} is missing; see --help")
        if flag.present and flag.name not in (*needed, *optional):
            known = ", ".join(f"--{name}" for name in (*needed, *optional))
            raise UsageError(f"{command} takes no --{flag.name}; it takes {known}")


def build_map() -> str:
    from jaxreloc.localization import building

    if FLAGS.workdir and FLAGS.checkpoint:
        raise UsageError("--workdir and --checkpoint both name a network; give one of them")
    if (FLAGS.workdir or FLAGS.checkpoint) and FLAGS["long_side"].present:
        raise UsageError("--long_side is of the network that ships, not of a trained one")
    return building.build_map(
        FLAGS.images,
        FLAGS.out,
        FLAGS.workdir or FLAGS.checkpoint,
        poses=FLAGS.poses,
        skip_bad_frames=FLAGS.skip_bad_frames,
        long_side=FLAGS.long_side,
    )


def add_to_map() -> str:
    from jaxreloc.localization import building

    return building.add_to_map(
        FLAGS.map, FLAGS.images, poses=FLAGS.poses, skip_bad_frames=FLAGS.skip_bad_frames
    )


def remove_from_map() -> str:
    from jaxreloc.localization import building

    return building.remove_from_map(FLAGS.map, FLAGS.names)


def query() -> str:
    from jaxreloc.evaluation.report.views import MapViews, Views
    from jaxreloc.localization import querying

    check_choice("format", FLAGS.format, LINE_FORMATS)
    out = pathlib.Path(FLAGS.out).expanduser()
    views = Views(
        report=out.with_name(f"{out.stem}_report.html") if FLAGS.viz else None,
        recording=pathlib.Path(FLAGS.rerun).expanduser() if FLAGS.rerun else None,
    )
    views.check()
    localizer = querying.open_localizer(
        FLAGS.map,
        num_neighbors=FLAGS.num_neighbors,
        fusion_method=FLAGS.method,
        min_baseline=FLAGS.min_baseline,
        index=FLAGS.index,
        quarter_turns=FLAGS.quarter_turns,
    )
    settings = {"map": FLAGS.map, "images": FLAGS.images, "fusion": FLAGS.method}
    with MapViews(localizer.scene_map, views, pathlib.Path(FLAGS.map).name, settings) as seen:
        count = querying.localize_images(
            localizer,
            FLAGS.images,
            out,
            LINE_FORMATS[FLAGS.format],
            intrinsics_path=FLAGS.intrinsics,
            keep=seen.keep,
        )
    if count.unread:
        raise UsageError(f"{out}: {count}; replace or remove these files")
    return f"{out}: {count}"


# Each command's function, and the flags that it needs and that it may be given.
COMMANDS = {
    "map": (
        build_map,
        ("images", "out"),
        ("poses", "workdir", "checkpoint", "skip_bad_frames", "long_side"),
    ),
    "map add": (add_to_map, ("map", "images"), ("poses", "skip_bad_frames")),
    "map remove": (remove_from_map, ("map", "names"), ()),
    "query": (
        query,
        ("map", "images", "out"),
        (
            *("format", "intrinsics", "num_neighbors", "method", "min_baseline", "index"),
            *("quarter_turns", "viz", "rerun"),
        ),
    ),
}

if __name__ == "__main__":
    run_script(main)
