"""Evaluation of a saved network on the scenes of a dataset: what run_eval.py does."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxreloc import files
from jaxreloc.data import datasets
from jaxreloc.evaluation import evaluate, metrics, plots, pose_files, results, tables
from jaxreloc.evaluation.baselines import published
from jaxreloc.evaluation.report.content import Cameras, SceneContent
from jaxreloc.evaluation.report.matchers import SiftMatcher, network_matcher
from jaxreloc.evaluation.report.recorder import MAX_PICTURED_QUERIES, SceneRecorder
from jaxreloc.evaluation.report.views import Views
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import EncodedImages, encode_frames
from jaxreloc.localization.map.map_depth import with_depth
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.methods.method_choice import chosen_method
from jaxreloc.localization.networks.loading import LONG_SIDE, load_network, pretrained_network
from jaxreloc.localization.networks.matcher import Matcher
from jaxreloc.localization.networks.pose_network import PoseNetwork
from jaxreloc.localization.query_state import Localization
from jaxreloc.progress_bars import progress_bar
from jaxreloc.usage import UsageError, check_choice

# The ground truths of 7-Scenes as their evaluator names them, and the dataset that has each.
GROUND_TRUTHS = {"dslam": "seven_scenes", "sfm": "seven_scenes/sfm"}
# Datasets with the paper's protocol, of which its two fusions are shown by number of neighbours.
PAPER_PROTOCOL = ("seven_scenes", "seven_rooms")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to evaluate and how."""

    dataset: str
    scenes: tuple[str, ...]  # ("all",) means every scene of the dataset
    data_path: str | None = None  # folder of the user's photographs (posed_images)
    data_dir: str | None = None  # where TFDS keeps prepared datasets
    skip_bad_frames: bool = False
    num_neighbors: int | None = None  # None: what suits the method
    method: str | None = None  # of method_choice.METHODS; None: what suits the network
    mode: str | None = None  # of all_matches
    min_baseline: float | None = None  # of the other methods; None: as the map suggests
    methods: tuple[str, ...] = evaluate.DEFAULT_METHODS
    max_queries: int | None = None  # of each scene, evenly chosen; None: all
    long_side: int = LONG_SIDE  # pixels of the canvas of the network that ships
    estimator: str | None = None  # of its relative poses, in ESTIMATORS; None: its own


@dataclasses.dataclass(frozen=True)
class Scene:
    """A scene's two sides."""

    name: str
    database: PosedFrames
    queries: PosedFrames


# The answers to a scene's queries, in order, from other processes. Takes also the scene's folder of
# results, and the map with its images as they are kept on disk.
Elsewhere = Callable[
    [Scene, pathlib.Path, SceneMap, EncodedImages], Sequence[Mapping[str, evaluate.Located]]
]


def evaluate_network(
    network_path: pathlib.Path | None,
    settings: Settings,
    out: pathlib.Path,
    *,
    model: Mapping[str, Any] | None = None,
    views: Views = Views(),
    elsewhere: Elsewhere | None = None,
) -> str:
    """Evaluates every scene, writes the result files into `out` and returns the tables.

    With several scenes there is a table for each, one that pools their queries, and one of medians
    by scene. On 7-Scenes that one has the published numbers, too. Datasets of PAPER_PROTOCOL have
    one more, of the fusions of pairs by the number of neighbours.

    Args:
      network_path: a workdir or the folder of a saved network; None takes the network that needs
        no training (`pretrained_network`).
      model: `config.model` that the network has to fit, if the caller insists on one.
      views: to write besides.
      elsewhere: asks the queries in other processes, which show no views.

    Raises:
      UsageError: a name, file or network is not what it should be.
    """
    for method in settings.methods:
        check_choice("method", method, evaluate.METHODS)
    if "shipped" in settings.methods and network_path is None:
        raise UsageError("without --workdir the network is the one that ships; drop it as baseline")
    views.check()
    scenes = load_evaluation_scenes(settings)
    trained = None if network_path is None else load_network(network_path, model)
    matches = trained is None or isinstance(trained, Matcher)
    chosen_method(settings.method, settings.mode, settings.min_baseline, matches=matches)
    make_folder(out)
    max_pictured = max(1, MAX_PICTURED_QUERIES // len(scenes)) if views.wanted else 0
    by_scene, fusions, contents = {}, {}, []
    for scene in scenes:
        evaluated = _evaluate_scene(trained, settings, scene, out, max_pictured, elsewhere)
        by_scene[scene.name], fusions[scene.name], content = evaluated
        contents += [content] if content else []
    provenance = dataclasses.asdict(settings) | {"network": str(network_path or "pretrained")}
    results.write_results(out, by_scene, provenance, fusions)
    blocks = _tables(settings, by_scene, fusions)
    files.write_text(out / "tables.txt", "\n\n".join(blocks) + "\n")
    if contents:
        title = f"{settings.dataset}: {', '.join(by_scene)}"
        shown = {name: _shown(value) for name, value in provenance.items() if value}
        blocks.append("\n".join(views.write(title, contents, shown)))
    if settings.dataset in GROUND_TRUTHS.values():
        truth = next(key for key, dataset in GROUND_TRUTHS.items() if dataset == settings.dataset)
        titles = {result.key: result.title for result in next(iter(by_scene.values()))}
        results.write_evaluator_config(
            out / "public_evaluator.json", out, list(by_scene), titles, truth=truth
        )
    return "\n\n".join(blocks)


def evaluate_pose_files(poses: Sequence[str], truths: Sequence[str]) -> str:
    """The table of pose files of any method against files of the true poses, pair by pair.

    Raises:
      UsageError: there are not as many of one as of the other, or a file is not what it should be.
    """
    if len(poses) != len(truths):
        raise UsageError(
            f"--poses has {len(poses)} files and --truth {len(truths)}; give one for each"
        )
    summaries = {
        path: metrics.summarize(pose_files.read_pose_errors(path, truth)[1])
        for path, truth in zip(poses, truths, strict=True)
    }
    table = tables.format_summaries("poses", summaries)
    if len(poses) > 1:
        position, rotation = np.mean(
            [(s.median_position_m, s.median_rotation_deg) for s in summaries.values()], axis=0
        )
        table += f"\n\naverage of the medians: {position:.3f} m, {rotation:.2f} deg"
    return table


def load_evaluation_scenes(settings: Settings) -> list[Scene]:
    """Database and queries of the scenes; pictures are not read yet."""
    source = {"data_dir": settings.data_dir, "data_path": settings.data_path}
    names = tuple(dict.fromkeys(settings.scenes))
    if names == ("all",):
        names = datasets.scene_names(settings.dataset, **source)
    scenes = []
    for name in names:
        database, queries = datasets.load_database_and_queries(
            settings.dataset, name, skip_bad_frames=settings.skip_bad_frames, **source
        )
        count = min(len(queries), settings.max_queries or len(queries))
        chosen = np.arange(count) * len(queries) // count
        scenes.append(Scene(name, database, queries.select(chosen)))
    return scenes


def make_folder(out: pathlib.Path) -> None:
    """So that a folder that cannot be written is known before the work and not after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{out}: cannot be made ({error.strerror}); --out names another folder"
        ) from error


def _evaluate_scene(
    trained: PoseNetwork | None,
    settings: Settings,
    scene: Scene,
    out: pathlib.Path,
    max_pictured: int,
    elsewhere: Elsewhere | None,
) -> tuple[Sequence[evaluate.MethodResult], dict[str, metrics.PoseErrors], SceneContent | None]:
    shipped = "shipped" in settings.methods
    by_default = default_network(scene, settings) if trained is None or shipped else None
    images, scene_map = _mapped(scene, trained or by_default)
    recorder = _recorder(scene, scene_map, settings, max_pictured) if max_pictured else None
    if elsewhere is not None:
        located = elsewhere(scene, out / scene.name, scene_map, images)
        methods = evaluate.gathered(located, scene.queries)
    else:
        methods = evaluate.evaluate_scene(
            localizer_of(scene_map, settings),
            scene.database,
            scene.queries,
            methods=settings.methods,
            shipped=Localizer(_mapped(scene, by_default)[1]) if shipped else None,
            progress=functools.partial(progress_bar, what=f"{scene.name}: queries", unit="query"),
            observe=recorder and _observer(recorder, scene.queries),
        )
    for method in methods:
        path = out / scene.name / f"{method.key}.png"
        plots.save_top_view(path, scene.database, scene.queries, method)
    plots.save_error_curves(out / scene.name / "error_curves.png", scene.name, methods)
    fusions = {}
    if settings.dataset.partition("/")[0] in PAPER_PROTOCOL:
        fusions = evaluate.evaluate_fusions(
            scene_map,
            scene.queries,
            min_baseline=settings.min_baseline,
            progress=functools.partial(progress_bar, what=f"{scene.name}: fusions", unit="query"),
        )
    return methods, fusions, recorder and recorder.content()


def default_network(scene: Scene, settings: Settings) -> PoseNetwork:
    """The network that ships, for the pictures of a scene."""
    return pretrained_network(
        scene.database.image_sizes, long_side=settings.long_side, estimator=settings.estimator
    )


def localizer_of(scene_map: SceneMap, settings: Settings) -> Localizer:
    """What is evaluated."""
    return Localizer(
        scene_map,
        num_neighbors=settings.num_neighbors,
        method=settings.method,
        mode=settings.mode,
        min_baseline=settings.min_baseline,
    )


def _mapped(scene: Scene, network: PoseNetwork) -> tuple[EncodedImages, SceneMap]:
    encoding = functools.partial(progress_bar, what=f"{scene.name}: database")
    images = encode_frames(scene.database, network, progress=encoding)
    matching = functools.partial(
        progress_bar, what=f"{scene.name}: depths", total=len(scene.database)
    )
    scene_map = with_depth(SceneMap.from_images(network, images), matching)
    return dataclasses.replace(images, depth=scene_map.depth), scene_map


def _recorder(
    scene: Scene, scene_map: SceneMap, settings: Settings, max_pictured: int
) -> SceneRecorder:
    database = scene.database
    return SceneRecorder(
        scene.name,
        Cameras(
            database.names, database.world_from_cam, database.intrinsics, database.image_sizes
        ),
        database.images,
        methods={k: title for k, title in evaluate.METHODS.items() if k in settings.methods},
        matcher=network_matcher(scene_map) or SiftMatcher(database.images, database.intrinsics),
        max_pictured=max_pictured,
    )


def _observer(recorder: SceneRecorder, queries: PosedFrames):
    def observe(i: int, located: Mapping[str, Localization]) -> None:
        recorder.add(
            queries.names[i],
            queries.images[i],
            queries.intrinsics[i],
            located,
            truth=queries.world_from_cam[i],
        )

    return observe


def _tables(
    settings: Settings,
    by_scene: Mapping[str, Sequence[evaluate.MethodResult]],
    fusions: Mapping[str, Mapping[str, metrics.PoseErrors]],
) -> list[str]:
    blocks = [tables.format_results(name, methods) for name, methods in by_scene.items()]
    if len(by_scene) > 1:
        pooled = evaluate.pool(list(by_scene.values()))
        blocks.append(tables.format_results(f"all {len(by_scene)} scenes", pooled))
    is_seven_scenes = settings.dataset.partition("/")[0] == "seven_scenes"
    if is_seven_scenes or len(by_scene) > 1:
        others = published.SEVEN_SCENES if is_seven_scenes else ()
        blocks.append(tables.format_medians(by_scene, others))
    if any(fusions.values()):
        blocks.append(tables.format_fusions(fusions))
    return blocks


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
