"""`jaxreloc query`: localizes images in a map."""

import pathlib
import sys
import time
from typing import Annotated, Literal

from jaxreloc.cli.options import MaxMegapixels, Retrieval, Views, limit_pictures
from jaxreloc.cli.parsing import Listed, flag, numbers

FORMATS = "tum, 7scenes, jsonl, colmap, nerfstudio or geopose."


def query(
    map: Annotated[str, flag("Folder of the map.", "DIR")],
    images: Annotated[str, flag("Picture, folder, video, ROS bag, stream, camera:0.", "PATH")],
    out: Annotated[str, flag("File of the poses; of colmap a folder.", "FILE")],
    format: Annotated[str, flag(FORMATS, "NAME")] = "tum",
    intrinsics: Annotated[
        str | None, flag("`fx fy cx cy` of the images; none: the map's.", "FILE")
    ] = None,
    topic: Annotated[str | None, flag("Of a ROS bag with several.", "/NAME")] = None,
    near: Annotated[
        Listed, flag("Look among the map's images there only.", "X,Y,Z,RADIUS")
    ] = (),
    near_gps: Annotated[
        Listed, flag("The same in degrees and metres.", "LAT,LON,RADIUS")
    ] = (),
    quarter_turns: Annotated[
        bool, flag("Do not look at refused images again, turned.")
    ] = True,
    index: Annotated[
        Literal["exact", "faiss"], flag("Search for similar images: exact or faiss.", "NAME")
    ] = "exact",
    max_megapixels: MaxMegapixels = 200.0,
    resume: Annotated[bool, flag("Go on from what a run that was cut off has left.")] = False,
    retrieval: Retrieval = Retrieval(),
    views: Views = Views(),
) -> None:
    """Localizes pictures, a video, a ROS bag or a camera's stream in a map.

    A line of the poses is printed for each image as it is done.
    """
    clock = _Stopwatch()
    from jaxreloc.compilation.compilation_cache import use_compilation_cache
    from jaxreloc.compilation.kept_programs import loaded_ahead
    from jaxreloc.usage import UsageError, check_choice

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
            report=path.with_name(f"{path.stem}_report.html") if views.viz else None,
            recording=views.recording,
        )
        shown.check()
        clock.lap("libraries")
        localizer = querying.open_localizer(
            map,
            num_neighbors=retrieval.num_neighbors,
            method=retrieval.method,
            mode=retrieval.mode,
            min_baseline=retrieval.min_baseline,
            index=index,
            quarter_turns=quarter_turns,
        )
        clock.lap("map, network")
        if place_gps is not None:
            place = localizer.scene_map.near_gps(place_gps)
        form = answer_formats.answer_format(format, localizer.scene_map.geographic_origin, map)
        settings = {"map": map, "images": images, "method": retrieval.method or "all_matches"}
        with MapViews(localizer.scene_map, shown, pathlib.Path(map).name, settings) as seen:
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
            )
    if count.unread:
        raise UsageError(f"{path}: {count}; replace or remove these files")
    clock.lap("programs, answers")
    print(f"{path}: {count}")
    print(clock, file=sys.stderr)


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
