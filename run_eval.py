"""Evaluates relocalization and prints the table.

  python run_eval.py --scene=chess --workdir=DIR
  python run_eval.py --scene=all --ground_truth=dslam,sfm
  python run_eval.py --dataset=posed_images --data_path=PHOTOS --scene=NAME --viz
  python run_eval.py --pairs=NN_university.txt --estimates=FILE
  python run_eval.py --poses=chess_hloc.txt --truth=chess_test.txt
"""

import dataclasses
import pathlib

from absl import flags

from jaxreloc import config_flag
from jaxreloc.usage import UsageError, check_choice, run_script

DEFAULT_OUT = pathlib.Path("runs") / "pretrained"

FLAGS = flags.FLAGS
flags.DEFINE_list("scene", [], "Scene, or scenes separated by commas; `all` means every one.")
flags.DEFINE_string("dataset", "seven_scenes", "Dataset that the scene belongs to.")
flags.DEFINE_list(
    "ground_truth", [], "Of seven_scenes: dslam (the original, the default), sfm, or both."
)
flags.DEFINE_string(
    "data_path", None, "Folder of your own photographs (posed_images), or an unpacked 7 Scenes."
)
flags.DEFINE_bool("skip_bad_frames", False, "Leave bad frames out, and list them.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps prepared datasets (its default).")
flags.DEFINE_string(
    "workdir", None, "Folder that run_train.py trained in; without it, the network that ships."
)
flags.DEFINE_string("checkpoint", None, "Folder of one saved network, instead of --workdir.")
flags.DEFINE_integer(
    "long_side", 512, "Of images in the network that ships; 256 is fast.", lower_bound=64
)
flags.DEFINE_enum(
    "estimator", None, ["network", "matches", "refined"], "Its relative poses (refined)."
)
config_flag.define_config()
flags.DEFINE_string("out", None, "Folder for the results (WORKDIR/eval/DATASET).")
flags.DEFINE_integer(
    "num_neighbors",
    None,
    "Neighbours of each query to use; none given, 5 of a scene, all that --pairs lists.",
    lower_bound=1,
)
flags.DEFINE_float(
    "min_baseline",
    None,
    "Distance that neighbours keep from each other, in the poses' unit; 0 takes the most similar "
    "ones, none given a share of the scene's extent.",
    lower_bound=0.0,
)
flags.DEFINE_enum("method", "robust", ["robust", "paper"], "Fusion of the relative poses.")
flags.DEFINE_list("baseline", ["nearest", "sift"], "Rows beside the network's: nearest, sift.")
flags.DEFINE_bool("viz", False, "Write OUT/report.html: cameras, queries and their matches.")
flags.DEFINE_string("rerun", None, "Write this .rrd file for the Rerun viewer (an extra).")
flags.DEFINE_string("pairs", None, "Fuse relative poses of this list of pairs, and no network.")
flags.DEFINE_string("estimates", None, "The relative poses that a program wrote for --pairs.")
flags.DEFINE_enum(
    "translation_frame", "world", ["world", "camera"], "Axes of the estimates' translations."
)
flags.DEFINE_list("poses", [], "Measure pose files of any program against --truth.")
flags.DEFINE_list("truth", [], "Files of the true poses, in the order of --poses.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UsageError(f"unknown argument {argv[1]!r}; flags start with --")
    if (FLAGS.viz or FLAGS.rerun) and not FLAGS.scene:
        raise UsageError("--viz and --rerun show the queries of a scene; name it by --scene")
    if FLAGS.pairs or FLAGS.estimates:
        print(evaluate_estimates())
    elif FLAGS.poses or FLAGS.truth:
        print(evaluate_poses())
    else:
        evaluate_network()


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


def evaluate_poses() -> str:
    """The table of absolute poses that another program has written."""
    from jaxreloc.evaluation import run

    if not (FLAGS.poses and FLAGS.truth):
        raise UsageError("--poses and --truth belong together; give both")
    return run.evaluate_pose_files(FLAGS.poses, FLAGS.truth)


def evaluate_network() -> None:
    """Prints the tables of a network beside the baselines, for each ground truth."""
    from jaxreloc.compilation_cache import use_compilation_cache
    from jaxreloc.evaluation import run
    from jaxreloc.evaluation.report.views import Views

    use_compilation_cache()
    if not FLAGS.scene:
        raise UsageError("--scene is missing; name one, such as --scene=chess, or --scene=all")
    if FLAGS.workdir and FLAGS.checkpoint:
        raise UsageError("--workdir and --checkpoint both name a network; give one of them")
    if FLAGS.rerun and len(FLAGS.ground_truth) > 1:
        raise UsageError("--rerun is one recording; give one --ground_truth with it")
    named = FLAGS.workdir or FLAGS.checkpoint
    if named and (FLAGS.estimator or FLAGS["long_side"].present):
        raise UsageError(
            "--estimator and --long_side are of the network that ships; leave them out, or --workdir"
        )
    source = pathlib.Path(named) if named else None
    settings = run.Settings(
        dataset=FLAGS.dataset,
        scenes=tuple(FLAGS.scene),
        data_path=FLAGS.data_path,
        data_dir=FLAGS.data_dir,
        skip_bad_frames=FLAGS.skip_bad_frames,
        num_neighbors=FLAGS.num_neighbors or run.Settings.num_neighbors,
        fusion_method=FLAGS.method,
        min_baseline=FLAGS.min_baseline,
        methods=("network", *FLAGS.baseline),
        long_side=FLAGS.long_side,
        estimator=FLAGS.estimator,
    )
    recording = pathlib.Path(FLAGS.rerun) if FLAGS.rerun else None
    model = FLAGS.config.model if FLAGS.config else None
    for dataset, out in evaluations():
        print(f"{dataset}, results in {out}\n")
        each = dataclasses.replace(settings, dataset=dataset)
        views = Views(out / "report.html" if FLAGS.viz else None, recording)
        print(run.evaluate_network(source, each, out, model=model, views=views), end="\n\n")


def evaluations() -> list[tuple[str, pathlib.Path]]:
    """The datasets to evaluate and the folder for the results of each."""
    from jaxreloc.evaluation.run import GROUND_TRUTHS

    named = pathlib.Path(FLAGS.workdir or FLAGS.checkpoint or DEFAULT_OUT)
    if not FLAGS.ground_truth:
        return [(FLAGS.dataset, pathlib.Path(FLAGS.out or named / "eval" / FLAGS.dataset))]
    if FLAGS.dataset != "seven_scenes":
        raise UsageError(f"--ground_truth is for seven_scenes, not for {FLAGS.dataset}; drop it")
    for truth in FLAGS.ground_truth:
        check_choice("ground truth", truth, GROUND_TRUTHS)
    base = pathlib.Path(FLAGS.out or named / "eval" / "seven_scenes")
    return [(GROUND_TRUTHS[truth], base / truth) for truth in FLAGS.ground_truth]


if __name__ == "__main__":
    run_script(main)
