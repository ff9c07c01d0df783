"""`jaxreloc query`: localizes images in a map."""

import contextlib
import dataclasses
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from jaxreloc.cli.options import Engine, MaxMegapixels, Retrieval, Views, limit_pictures
from jaxreloc.cli.parsing import Listed, flag, numbers
from jaxreloc.usage import UsageError

FORMATS = "tum, 7scenes, jsonl, colmap, nerfstudio or geopose."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output(Views, Engine):
    def __post_init__(self):
        Engine.__post_init__(self)
        if self.on_ray and (self.viz or self.rerun):
            raise UsageError("--viz and --rerun are written by one process; leave --engine out")


def query(
    map: Annotated[str, flag("Folder of the map.", "DIR")],
    images: Annotated[str, flag("Picture, folder, video, ROS bag, stream, camera:0.", "PATH")],
    out: Annotated[str, flag("File of the poses; a folder for colmap.", "FILE")],
    format: Annotated[str, flag(FORMATS, "NAME")] = "tum",
    intrinsics: Annotated[
        str | None, flag("Cameras of the images; without it they are found.", "FILE")
    ] = None,
    topic: Annotated[
        str | None, flag("Topic of the pictures, if a ROS bag has several.", "/NAME")
    ] = None,
    near: Annotated[
        Listed, flag("Only use map images within R of X,Y,Z.", "X,Y,Z,R")
    ] = (),
    near_gps: Annotated[
        Listed, flag("Only use map images within R metres of LAT,LON.", "LAT,LON,R")
    ] = (),
    quarter_turns: Annotated[
        bool, flag("Do not try refused images again, turned.")
    ] = True,
    index: Annotated[
        Literal["exact", "faiss"], flag("Search for similar images: exact or faiss.", "NAME")
    ] = "exact",
    max_megapixels: MaxMegapixels = 200.0,
    resume: Annotated[bool, flag("Go on where an interrupted run stopped.")] = False,
    retrieval: Retrieval = Retrieval(),
    output: Output = Output(),
) -> None:
    """Localizes pictures, a video, a ROS bag or a camera's stream in a map.

    A line of the poses is printed for each image as it is done.
    """
    clock = _Stopwatch()
    from jaxreloc.compilation.compilation_cache import use_compilation_cache
    from jaxreloc.compilation.kept_programs import loaded_ahead
    from jaxreloc.usage import check_choice

    use_compilation_cache()
    with loaded_ahead(["query", map, retrieval, intrinsics is None]):
        from jaxreloc.evaluation.report.views import MapViews
        from jaxreloc.evaluation.report.views import Views as ReportViews
        from jaxreloc.formats.writers import answer_formats
        from jaxreloc.localization.jobs import querying

        check_choice("format", format, answer_formats.NAMES)
        if near and near_gps:
            raise UsageError("--near and --near_gps both name a place; give one of them")
        place = numbers("near", near, 4) if near else None
        place_gps = numbers("near_gps", near_gps, 3) if near_gps else None
        limit_pictures(max_megapixels)
        path = pathlib.Path(out).expanduser()
        shown = ReportViews(
            report=path.with_name(f"{path.stem}_report.html") if output.viz else None,
            recording=output.recording,
        )
        shown.check()
        clock.lap("libraries")
        options = dataclasses.asdict(retrieval) | {"index": index, "quarter_turns": quarter_turns}
        localizer = querying.open_localizer(map, **options)
        clock.lap("map, network")
        if place_gps is not None:
            place = localizer.scene_map.near_gps(place_gps)
        form = answer_formats.answer_format(format, localizer.scene_map.geographic_origin, map)
        settings = {"map": map, "images": images, "method": retrieval.method or "all_matches"}
        with (
            MapViews(localizer.scene_map, shown, pathlib.Path(map).name, settings) as seen,
            _elsewhere(output, map, options, images, intrinsics, place, max_megapixels) as other,
        ):
            count = querying.localize_images(
                localizer,
                images,
                path,
                form,
                intrinsics_path=intrinsics,
                near=place,
                topic=topic,
                keep=seen.keep,
                resume=resume,
                elsewhere=other,
            )
    if count.unread:
        raise UsageError(f"{path}: {count}; replace or remove these files")
    clock.lap("programs, answers")
    print(f"{path}: {count}")
    print(clock, file=sys.stderr)


def _elsewhere(
    engine: Engine,
    map: str,
    options: dict[str, Any],
    images: str,
    intrinsics: str | None,
    near: Sequence[float] | None,
    max_megapixels: float,
) -> contextlib.AbstractContextManager:
    """The workers that localize, if this process does not."""
    if not engine.on_ray:
        return contextlib.nullcontext()
    from jaxreloc.scale import bulk_queries, cluster

    asked = bulk_queries.BulkQueries(
        map=cluster.as_path(map),
        options=options,
        intrinsics_path=cluster.as_path(intrinsics) if intrinsics else None,
        near=near,
        max_pixels=round(1e6 * max_megapixels),
    )
    return bulk_queries.answering(asked, images, engine.address, engine.workers)


class _Stopwatch:
    """Where the seconds go; its text is a line."""

    def __init__(self):
        self._laps: list[tuple[str, float]] = []
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Ends the stage of this name, which began at the end of the one before."""
        now = time.perf_counter()
        self._laps.append((name, now - self._last))
        self._last = now

    def __str__(self) -> str:
        total = sum(seconds for _, seconds in self._laps)
        parts = "; ".join(f"{name} {seconds:.1f} s" for name, seconds in self._laps)
        return f"{total:.1f} s: {parts}"
