"""Evaluates relocalization and prints the table.

  python run_eval.py --scene=chess --workdir=DIR
  python run_eval.py --dataset=posed_images --data_path=PHOTOS --scene=NAME
  python run_eval.py --pairs=NN_university.txt --estimates=FILE
"""

import pathlib

from absl import flags

from jaxreloc import config_flag
from jaxreloc.usage import UsageError, run_script

DEFAULT_OUT = pathlib.Path("runs") / "pretrained"

FLAGS = flags.FLAGS
flags.DEFINE_list("scene", [], "Scene, or scenes separated by commas; `all` means every one.")
flags.DEFINE_string("dataset", "seven_scenes", "Dataset that the scene belongs to.")
flags.DEFINE_string("data_path", None, "Folder of your own photographs (posed_images).")
flags.DEFINE_bool("skip_bad_frames", False, "Leave bad frames out, and list them.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps prepared datasets (its default).")
flags.DEFINE_string("workdir", None, "Folder that run_train.py trained in; without it, no training.")
flags.DEFINE_string("checkpoint", None, "Folder of one saved network, instead of --workdir.")
config_flag.define_config()
flags.DEFINE_string("out", None, "Folder for the results (WORKDIR/eval/DATASET).")
flags.DEFINE_integer("num_neighbors", 5, "Neighbours of each query to use.", lower_bound=1)
flags.DEFINE_enum("method", "robust", ["robust", "paper"], "Fusion of the relative poses.")
flags.DEFINE_list("baseline", ["nearest", "sift"], "Rows beside the network's: nearest, sift.")
flags.DEFINE_string("pairs", None, "Fuse relative poses of this list of pairs, and no network.")
flags.DEFINE_string("estimates", None, "The relative poses that a program wrote for --pairs.")
flags.DEFINE_enum(
    "translation_frame", "world", ["world", "camera"], "Axes of the estimates' translations."
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UsageError(f"unknown argument {argv[1]!r}; flags start with --")
    print(evaluate_estimates() if FLAGS.pairs or FLAGS.estimates else evaluate_network())


def evaluate_estimates() -> str:
    """The table of relative poses that another program has written."""
    from jaxreloc.evaluation.pair_estimates import evaluate_pair_estimates

    if not (FLAGS.pairs and FLAGS.estimates):
        raise UsageError("--pairs and --estimates belong together; give both")
    return evaluate_pair_estimates(
        FLAGS.pairs,
        FLAGS.estimates,
        method=FLAGS.method,
        translation_frame=FLAGS.translation_frame,
        num_neighbors=FLAGS.num_neighbors,
    )


def evaluate_network() -> str:
    """The table of a trained network beside the baselines."""
    from jaxreloc.evaluation import run

    if not FLAGS.scene:
        raise UsageError("--scene is missing; name one, such as --scene=chess, or --scene=all")
    if FLAGS.workdir and FLAGS.checkpoint:
        raise UsageError("--workdir and --checkpoint both name a network; give one of them")
    named = FLAGS.workdir or FLAGS.checkpoint
    source = pathlib.Path(named) if named else None
    settings = run.Settings(
        dataset=FLAGS.dataset,
        scenes=tuple(FLAGS.scene),
        data_path=FLAGS.data_path,
        data_dir=FLAGS.data_dir,
        skip_bad_frames=FLAGS.skip_bad_frames,
        num_neighbors=FLAGS.num_neighbors,
        fusion_method=FLAGS.method,
        methods=("network", *FLAGS.baseline),
    )
    out = pathlib.Path(FLAGS.out or (source or DEFAULT_OUT) / "eval" / FLAGS.dataset)
    model = FLAGS.config.model if FLAGS.config else None
    return run.evaluate_network(source, settings, out, model=model)


if __name__ == "__main__":
    run_script(main)
