"""Localizing pictures, a video or a camera's stream in a map: `jaxreloc query`."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from jaxreloc import interrupts
from jaxreloc.files import printable
from jaxreloc.formats.common.camera_models import Camera
from jaxreloc.formats.localized_poses import LocalizedPose
from jaxreloc.formats.writers.answer_formats import AnswerFormat
from jaxreloc.localization.jobs.answer_file import AnswerFile
from jaxreloc.localization.jobs.query_cameras import QueryCameras
from jaxreloc.localization.jobs.query_images import QueryImages, find_query_images
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.neighbors.reranking import RERANKED
from jaxreloc.localization.neighbors.retrieval import ExactIndex, Index, recall
from jaxreloc.localization.query_state import Localization
from jaxreloc.usage import UsageError

logger = logging.getLogger(__name__)

# Localizes pictures, by their names and files: the answers, and why one could not be read.
Elsewhere = Callable[
    [Sequence[tuple[str, pathlib.Path]]], Iterable[tuple[LocalizedPose, str]]
]
INDICES = ("exact", "faiss")
RECALL_SAMPLE = 256


@dataclasses.dataclass(frozen=True)
class LocalizedImage:
    """A query that could be read, with its answer."""

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    intrinsics: Float[np.ndarray, "3 3"]
    found: Localization

    @property
    def camera(self) -> Camera:
        height, width = self.image.shape[:2]
        return Camera.of_matrix(self.intrinsics, width, height)


@dataclasses.dataclass
class Count:
    """How many images there were, and what became of them."""

    total: int = 0
    localized: int = 0
    unread: int = 0
    interrupted: bool = False
    problem: str = ""  # of the first that could not be read

    left_out_of: str = ""  # the name of a format that holds no failures

    def add(self, pose: LocalizedPose, problem: str) -> None:
        self.total += 1
        self.unread += bool(problem)
        self.localized += pose.success

    def __str__(self) -> str:
        line = f"{self.localized} of {self.total} images localized"
        line += ", then interrupted" if self.interrupted else ""
        if self.left_out_of and self.localized < self.total:
            line += f"; {self.total - self.localized} left out, {self.left_out_of} has no failures"
        return line + (f"; {self.unread} could not be read" if self.unread else "")


def open_localizer(
    map_path: str | pathlib.Path | SceneMap,
    *,
    num_neighbors: int | None = None,
    method: str | None = None,
    mode: str | None = None,
    min_baseline: float | None = None,
    index: str = "exact",
    quarter_turns: bool = True,
) -> Localizer:
    """A localizer of a map, on disk or open; see `Localizer` for the options.

    Args:
      index: of INDICES; "faiss" prints its recall against the exact search.

    Raises:
      UsageError: it is no map, of another version, or damaged.
    """
    scene_map = map_path if isinstance(map_path, SceneMap) else SceneMap.open(map_path)
    return Localizer(
        scene_map,
        num_neighbors=num_neighbors,
        method=method,
        mode=mode,
        min_baseline=min_baseline,
        index=_faiss_index(scene_map, num_neighbors or RERANKED) if index == "faiss" else None,
        quarter_turns=quarter_turns,
    )


def localize_images(
    localizer: Localizer,
    images: str | pathlib.Path,
    out: str | pathlib.Path,
    form: AnswerFormat,
    *,
    intrinsics_path: str | pathlib.Path | None = None,
    near: Sequence[float] | None = None,
    topic: str | None = None,
    keep: Callable[[LocalizedImage], object] = lambda image: None,
    resume: bool = False,
    elsewhere: Elsewhere | None = None,
) -> Count:
    """Localizes pictures or a video; prints a line for each as it is done and writes them to `out`.

    A picture that cannot be read, or is not of the given intrinsics, is written as a failure and
    does not stop the others. Until the last is done the answers are in `out`.partial (see
    `answer_file`), which an error or an interrupt (Ctrl-C) leaves behind, so that another run goes
    on from there; an interrupted camera or stream has ended, and its answers are written.

    Args:
      images: as `find_query_images` takes them.
      form: of the answers.
      intrinsics_path: an intrinsics.txt of the queries; without it they are assumed to be taken
        with a camera like the map's, unless a ROS bag tells of one.
      near: x, y, z and a radius, in the axes and the unit of the map: only images taken there may
        be neighbours.
      topic: of a ROS bag; None: the only one with pictures.
      keep: is called with each query that could be read and its answer.
      resume: leaves out the images that an earlier run has answered in `out`.partial.
      elsewhere: localizes pictures in other processes, in their order; `keep` is not called then.

    Raises:
      UsageError: no picture could be read, a name does not fit the format, or `out` cannot be
        written.
    """
    queries = find_query_images(images, topic, with_cameras=intrinsics_path is None)
    out = pathlib.Path(out).expanduser()
    if form.is_folder and os.path.lexists(out):
        raise UsageError(f"{out}: exists; --out names the new folder of the {form.name} model")
    if os.path.isdir(out):
        raise UsageError(f"{out}: is a folder; --out names the file of the poses")
    spaced = [name for name, _ in queries.pictures if any(map(str.isspace, name))]
    if spaced and form.splits_at_spaces:
        raise UsageError(
            f"{queries.source}: {spaced[0]!r} has a space, at which lines of this format are "
            "split; rename it, or choose --format=jsonl"
        )
    cameras = QueryCameras(localizer, intrinsics_path)
    allowed = None if near is None else localizer.scene_map.images_near(near)
    settings = _settings(localizer, queries, intrinsics_path, near)
    with AnswerFile(out, settings, resume=resume) as answers:
        print("getting ready; the first time this takes a minute", file=sys.stderr, flush=True)
        if elsewhere is None and len(queries.pictures) != 1:  # one picture is as fast without
            latency_ms = localizer.warm_up(
                candidates=queries.is_video, searching=cameras.may_search
            )
            print(f"ready; a query takes {latency_ms:.0f} ms", file=sys.stderr, flush=True)
        count = Count(len(answers.answered), sum(answers.answered.values()))
        count.left_out_of = "" if form.holds_failures else form.name

        def kept() -> str:
            return f"{answers.path}: {count}; --resume goes on from there" if count.total else ""

        if elsewhere is None:
            located = localize_each(localizer, queries, cameras, keep, answers.answered, allowed)
        else:
            located = elsewhere([x for x in queries.pictures if x[0] not in answers.answered])
        live = interrupts.Request() if queries.is_live else contextlib.nullcontext()
        with interrupts.saying(kept), live:
            for pose, problem in located:
                count.problem = count.problem or problem
                answers.add(pose)
                count.add(pose, problem)
                _print(form.line(pose))
                if queries.is_live and live.came:
                    count.interrupted = True
                    break
        if count.unread == count.total:
            answers.discard()
            why = f"no picture could be localized ({count.problem})" if count.total else "empty"
            raise UsageError(f"{images}: {why}; {out} is not written")
        answers.finish(form.write)
    return count


def _settings(
    localizer: Localizer,
    queries: QueryImages,
    intrinsics_path: str | pathlib.Path | None,
    near: Sequence[float] | None,
) -> str:
    """What answers depend on, as a line."""
    names = "\n".join(localizer.scene_map.names).encode("utf-8", "backslashreplace")
    settings = {
        "images": printable(queries.source),
        "topic": queries.topic,
        "map": hashlib.sha256(names).hexdigest()[:16],
        "intrinsics": intrinsics_path and printable(str(intrinsics_path)),
        "near": near and list(near),
    }
    return json.dumps(settings)


def _print(line: str) -> None:
    """Prints at once; where nobody reads any more (`| head`), nothing more is printed."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def localize_each(
    localizer: Localizer,
    queries: QueryImages,
    cameras: QueryCameras,
    keep: Callable[[LocalizedImage], object],
    answered: Collection[str],
    allowed: Bool[np.ndarray, "M"] | None,
) -> Iterator[tuple[LocalizedPose, str]]:
    """The answer to each query that is not `answered`, and why it could not be read.

    In a video the images that agreed on the frame before are candidates for the next, and its pose
    is a hypothesis, as it is and moved on at the same velocity.
    """
    candidates = np.zeros(0, int) if queries.is_video else None
    last: list[np.ndarray] = []  # poses of the frames before, at most two
    for query in queries.without(frozenset(answered)):
        found, problem = None, query.problem
        if query.image is not None:
            try:
                seen = cameras.see(query)
                found = localizer(
                    seen.image,
                    seen.intrinsics,
                    candidates,
                    expected_poses(last),
                    allowed,
                    focal_deviation=seen.focal_deviation,
                )
            except (UsageError, ValueError, cv2.error) as error:
                problem = f"{query.name}: {error}"
        if found is None:
            logger.warning("%s", problem)
            yield localized_pose(query.name, None), problem
            continue
        if queries.is_video:
            agree = found.location_inliers & found.success
            candidates = found.neighbors[agree][: localizer.num_neighbors]
            last = [*last[-1:], found.world_from_query] if found.success else []
        intrinsics = intrinsics_found(seen.intrinsics, found)
        image = LocalizedImage(query.name, seen.image, intrinsics, found)
        keep(image)
        yield localized_pose(query.name, found, image.camera), ""


def expected_poses(
    last: Sequence[Float[np.ndarray, "4 4"]],
) -> Float[np.ndarray, "G 4 4"] | None:
    """Where the camera may be after up to two frames: where it was, or as much further again."""
    if not last:
        return None
    if len(last) == 1:
        return np.stack(last)
    before, now = last
    return np.stack([now, now @ np.linalg.inv(before) @ now])


def intrinsics_found(
    asked_with: Float[np.ndarray, "3 3"], found: Localization
) -> Float[np.ndarray, "3 3"]:
    """With the focal length that was found along with the pose, if it was."""
    if found.focal_px is None or not found.success:
        return asked_with
    scale = found.focal_px / asked_with[0, 0]
    return asked_with * np.array([[scale, 1, 1], [1, scale, 1], [1, 1, 1]])


def localized_pose(
    name: str, found: Localization | None, camera: Camera | None = None
) -> LocalizedPose:
    """What is written of an answer; None: the picture could not be read."""
    if found is None:
        nothing = np.full((4, 4), np.nan)
        return LocalizedPose(name, False, nothing, 0.0, 0, 0, np.full((6, 6), np.nan), 0.0)
    return LocalizedPose(
        name=name,
        success=found.success,
        world_from_cam=found.world_from_query,
        confidence=found.confidence,
        num_inliers=int(found.location_inliers.sum()),
        num_neighbors=len(found.neighbors),
        covariance=found.covariance,
        total_ms=sum(found.stage_ms.values()),
        turn_deg=found.turn_deg,
        scale_source=found.scale_source,
        scale_deviation=found.scale_deviation,
        reason=found.reason,
        focal_factor=found.focal_factor,
        focal_px=found.focal_px,
        focal_deviation=found.focal_deviation,
        camera=camera,
    )


def _faiss_index(scene_map: SceneMap, num_neighbors: int) -> Index:
    from jaxreloc.localization.neighbors.faiss_index import FaissIndex

    index = FaissIndex.of(scene_map.descriptors)
    rows = np.random.default_rng(0).permutation(len(scene_map))[:RECALL_SAMPLE]
    queries = np.asarray(scene_map.descriptors)[rows]
    count = min(num_neighbors, len(scene_map))
    exact = ExactIndex(scene_map.descriptors).search(queries, count)[0]
    share = recall(index.search(queries, count)[0], exact)
    print(
        f"FAISS finds {share:.1%} of the {count} most similar images of the exact search "
        f"({len(rows)} of the map's images asked)",
        file=sys.stderr,
    )
    return index
