"""`jaxreloc eval`: tables of errors, of a network or of poses that another program has written."""

import contextlib
import dataclasses
import pathlib
from typing import Annotated, Any, Literal

import tyro

from jaxreloc.cli.options import Engine, Network, Rerun, Retrieval, Views, Viz
from jaxreloc.cli.parsing import Listed, flag
from jaxreloc.usage import UsageError, check_choice

# Where no network runs: two flags of which either says so, and the others that are heeded.
WITHOUT_NETWORK = (
    ("pairs", "estimates", "translation_frame", "method", "num_neighbors"),
    ("poses", "truth"),
)
BASELINES = ("nearest", "sift")  # and "shipped", where another is evaluated
DEFAULT_OUT = pathlib.Path("runs") / "pretrained"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OtherPrograms:
    pairs: Annotated[str | None, flag("Pair list of --estimates; no network runs.", "FILE")] = None
    estimates: Annotated[str | None, flag("Relative poses of these pairs.", "FILE")] = None
    translation_frame: Annotated[
        Literal["world", "camera"] | None,
        flag("Axes of the estimates: world (default) or camera.", "NAME"),
    ] = None
    poses: Annotated[Listed, flag("Pose files to measure against --truth.", "A,B")] = ()
    truth: Annotated[Listed, flag("Files of the true poses.", "A,B")] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenes(OtherPrograms):
    scene: Annotated[Listed, flag("Scenes, separated by commas, or all.", "A,B")] = ()
    dataset: Annotated[str, flag("Their dataset (seven_scenes).", "NAME")] = "seven_scenes"
    ground_truth: Annotated[Listed, flag("For seven_scenes: dslam, sfm or both.", "A,B")] = ()
    data_path: Annotated[
        str | None, flag("Your photographs, or an unpacked 7 Scenes.", "DIR")
    ] = None
    data_dir: Annotated[str | None, flag("Where TFDS keeps prepared datasets.", "DIR")] = None
    skip_bad_frames: Annotated[bool, flag("Leave bad frames out, and list them.")] = False
    max_queries: Annotated[int | None, flag("Queries per scene, evenly chosen (all).", "N")] = None

    def __post_init__(self):
        if self.max_queries is not None and self.max_queries < 1:
            raise UsageError(f"--max_queries={self.max_queries}: give at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Localizer(Network, Retrieval, Engine):
    estimator: Annotated[
        Literal["network", "matches", "refined"] | None,
        flag("Shipped network: network, matches or refined.", "NAME"),
    ] = None
    config: Annotated[str | None, flag("Config file that the network has to fit.", "FILE")] = None

    def __post_init__(self):
        Network.__post_init__(self)
        Retrieval.__post_init__(self)
        Engine.__post_init__(self)
        if self.named and self.estimator:
            raise UsageError("--estimator is of the network that ships, not of a trained one")


def evaluate(
    scenes: Scenes = Scenes(),
    localizer: Localizer = Localizer(),
    baseline: Annotated[
        Listed, flag("Methods to compare: nearest, sift, shipped.", "A,B")
    ] = BASELINES,
    out: Annotated[str | None, flag("Folder of the results.", "DIR")] = None,
    viz: Viz = False,
    rerun: Rerun = None,
    overrides: Annotated[tuple[str, ...], tyro.conf.Suppress] = (),
) -> None:
    """Evaluates relocalization in scenes and prints the tables."""
    changed = baseline != BASELINES
    others = {"baseline": changed, "out": out, "viz": viz, "rerun": rerun, "config": overrides}
    _check_heeded(_given(scenes) | _given(localizer) | {name for name in others if others[name]})
    views = Views(viz=viz, rerun=rerun)
    if localizer.on_ray and (views.viz or views.rerun):
        raise UsageError("--viz and --rerun are written by one process; leave --engine out")
    if (views.viz or views.rerun) and not scenes.scene:
        raise UsageError("--viz and --rerun show the queries of a scene; name it by --scene")
    if scenes.pairs or scenes.estimates:
        print(_table_of_estimates(scenes, localizer))
    elif scenes.poses or scenes.truth:
        print(_table_of_poses(scenes))
    else:
        _evaluate_network(scenes, localizer, baseline, out, views, overrides)


def _given(group: object) -> set[str]:
    """The names of the flags of a group that differ from their defaults."""
    fields = dataclasses.fields(group)
    return {field.name for field in fields if getattr(group, field.name) != field.default}


def _check_heeded(given: set[str]) -> None:
    """Raises UsageError for a flag that would do nothing beside the others."""
    for heeded in WITHOUT_NETWORK:
        if given & set(heeded[:2]) and (ignored := given - set(heeded)):
            first, second = heeded[:2]
            raise UsageError(
                f"--{min(ignored)} has no use with --{first} and --{second}, where no network "
                "runs; leave it out"
            )
    if "translation_frame" in given and not given & {"pairs", "estimates"}:
        raise UsageError("--translation_frame is for --pairs and --estimates; leave it out")


def _table_of_estimates(others: OtherPrograms, retrieval: Retrieval) -> str:
    from jaxreloc.evaluation.pair_estimates import evaluate_pair_estimates

    if not (others.pairs and others.estimates):
        raise UsageError("--pairs and --estimates belong together; give both")
    return evaluate_pair_estimates(
        others.pairs,
        others.estimates,
        method=retrieval.method or "robust",
        translation_frame=others.translation_frame or "world",
        num_neighbors=retrieval.num_neighbors,
    )


def _table_of_poses(others: OtherPrograms) -> str:
    from jaxreloc.evaluation import run

    if not (others.poses and others.truth):
        raise UsageError("--poses and --truth belong together; give both")
    return run.evaluate_pose_files(others.poses, others.truth)


def _evaluate_network(
    scenes: Scenes,
    localizer: Localizer,
    baseline: tuple[str, ...],
    out: str | None,
    views: Views,
    overrides: tuple[str, ...],
) -> None:
    """Prints the tables of a network beside the baselines, for each ground truth."""
    if not scenes.scene:
        raise UsageError("--scene is missing; name one, such as --scene=chess, or --scene=all")
    if views.rerun and len(scenes.ground_truth) > 1:
        raise UsageError("--rerun is one recording; give one --ground_truth with it")
    from jaxreloc.compilation.compilation_cache import use_compilation_cache
    from jaxreloc.evaluation import run
    from jaxreloc.evaluation.report.views import Views as ReportViews

    use_compilation_cache()
    model = None
    if overrides and not localizer.config:
        raise UsageError(f"{overrides[0]} changes a config; name it with --config=FILE")
    if localizer.config:
        from jaxreloc.config_flag import check_field, load_config

        config = load_config(localizer.config, overrides)
        check_field(config, "model")
        model = config.model
    defaults = run.Settings
    settings = run.Settings(
        dataset=scenes.dataset,
        scenes=scenes.scene,
        data_path=scenes.data_path,
        data_dir=scenes.data_dir,
        skip_bad_frames=scenes.skip_bad_frames,
        max_queries=scenes.max_queries,
        num_neighbors=localizer.num_neighbors or defaults.num_neighbors,
        method=localizer.method,
        mode=localizer.mode,
        min_baseline=localizer.min_baseline,
        methods=("network", *baseline),
        long_side=localizer.long_side or defaults.long_side,
        estimator=localizer.estimator,
    )
    for dataset, folder in _evaluations(scenes, localizer, out):
        each = dataclasses.replace(settings, dataset=dataset)
        shown = ReportViews(folder / "report.html" if views.viz else None, views.recording)
        with localizer.rendering(dataset), _elsewhere(localizer, each, model, folder) as elsewhere:
            tables = run.evaluate_network(
                localizer.named, each, folder, model=model, views=shown, elsewhere=elsewhere
            )
        print(f"{dataset}, results in {folder}", tables, sep="\n\n", end="\n\n")


def _elsewhere(
    localizer: Localizer, settings: Any, model: Any, out: pathlib.Path
) -> contextlib.AbstractContextManager:
    """The workers that ask the queries, if this process does not."""
    if not localizer.on_ray:
        return contextlib.nullcontext()
    from jaxreloc.scale import bulk_queries

    return bulk_queries.evaluating(
        settings, localizer.named, model, out, localizer.address, localizer.workers
    )


def _evaluations(
    scenes: Scenes, network: Network, out: str | None
) -> list[tuple[str, pathlib.Path]]:
    """The datasets to evaluate and the folder for the results of each."""
    from jaxreloc.evaluation.run import GROUND_TRUTHS

    base = pathlib.Path(out or (network.named or DEFAULT_OUT) / "eval" / scenes.dataset)
    if not scenes.ground_truth:
        return [(scenes.dataset, base)]
    if scenes.dataset != "seven_scenes":
        raise UsageError(f"--ground_truth is for seven_scenes, not for {scenes.dataset}; drop it")
    for truth in scenes.ground_truth:
        check_choice("ground truth", truth, GROUND_TRUTHS)
    return [(GROUND_TRUTHS[truth], base / truth) for truth in scenes.ground_truth]
