"""`jaxreloc query`: localizes images in a map."""

import pathlib
from typing import Annotated, Literal

from jaxreloc.cli.options import Retrieval, Views
from jaxreloc.cli.parsing import flag
from jaxreloc.usage import check_choice

FORMATS = "tum, colmap, 7scenes or jsonl."


def query(
    map: Annotated[str, flag("Folder of the map.", "DIR")],
    images: Annotated[str, flag("Picture, folder, video, stream or camera:0.", "PATH")],
    out: Annotated[str, flag("File of the poses.", "FILE")],
    format: Annotated[str, flag(f"Of the poses: {FORMATS}", "NAME")] = "tum",
    intrinsics: Annotated[
        str | None, flag("`fx fy cx cy` of the images; none: the map's.", "FILE")
    ] = None,
    quarter_turns: Annotated[
        bool, flag("Do not look at refused images again, turned.")
    ] = True,
    index: Annotated[
        Literal["exact", "faiss"], flag("Search for similar images: exact or faiss.", "NAME")
    ] = "exact",
    resume: Annotated[bool, flag("Go on from what a run that was cut off has left.")] = False,
    retrieval: Retrieval = Retrieval(),
    views: Views = Views(),
) -> None:
    """Localizes pictures, a video or a camera's stream in a map.

    A line of the poses is printed for each image as it is done.
    """
    from jaxreloc.compilation.compilation_cache import use_compilation_cache
    from jaxreloc.evaluation.report.views import MapViews
    from jaxreloc.evaluation.report.views import Views as ReportViews
    from jaxreloc.formats.localized_poses import LINE_FORMATS
    from jaxreloc.localization.jobs import querying
    from jaxreloc.usage import UsageError

    check_choice("format", format, LINE_FORMATS)
    path = pathlib.Path(out).expanduser()
    shown = ReportViews(
        report=path.with_name(f"{path.stem}_report.html") if views.viz else None,
        recording=views.recording,
    )
    shown.check()
    use_compilation_cache()
    localizer = querying.open_localizer(
        map,
        num_neighbors=retrieval.num_neighbors,
        method=retrieval.method,
        mode=retrieval.mode,
        min_baseline=retrieval.min_baseline,
        index=index,
        quarter_turns=quarter_turns,
    )
    settings = {"map": map, "images": images, "method": retrieval.method or "all_matches"}
    with MapViews(localizer.scene_map, shown, pathlib.Path(map).name, settings) as seen:
        count = querying.localize_images(
            localizer,
            images,
            path,
            LINE_FORMATS[format],
            intrinsics_path=intrinsics,
            keep=seen.keep,
            resume=resume,
        )
    if count.unread:
        raise UsageError(f"{path}: {count}; replace or remove these files")
    print(f"{path}: {count}")
