"""`jaxreloc map`: builds, changes, describes and checks maps."""

import functools
import pathlib
from collections.abc import Callable, Iterable
from typing import Annotated, Literal

from jaxreloc.cli.options import Engine, MaxMegapixels, Network, limit_pictures
from jaxreloc.cli.parsing import Listed, flag, numbers
from jaxreloc.usage import UsageError

Images = Annotated[str, flag("Folder of the photographs.", "DIR")]
Captured = Annotated[str, flag("Folder of the photographs, or a video.", "PATH")]
Poses = Annotated[str | None, flag("Their poses, if these are not in that folder.", "PATH")]
SkipBadFrames = Annotated[bool, flag("Leave bad frames out, and list them.")]
Map = Annotated[str, flag("Folder of the map.", "DIR")]


def build(
    images: Captured,
    out: Annotated[str, flag("Folder of the new map.", "DIR")],
    poses: Poses = None,
    distance: Annotated[
        Listed, flag("Metres between two photographs without poses.", "A,B,METRES")
    ] = (),
    skip_bad_frames: SkipBadFrames = False,
    geographic_origin: Annotated[
        Listed, flag("Origin of poses in axes East, North, Up.", "LAT,LON,HEIGHT")
    ] = (),
    max_megapixels: MaxMegapixels = 200.0,
    index: Annotated[
        bool, flag("Make a search index (automatic from 100,000 images).")
    ] = False,
    network: Network = Network(),
    engine: Engine = Engine(),
) -> None:
    """Makes a map of photographs; where they have no poses, these are found first."""
    from jaxreloc.capture.photographs import lacks_poses
    from jaxreloc.compilation.compilation_cache import use_compilation_cache
    from jaxreloc.formats.common.geodesy import GeographicOrigin
    from jaxreloc.localization.jobs import building
    from jaxreloc.localization.networks.loading import LONG_SIDE

    origin = None
    if geographic_origin:
        place = numbers("geographic_origin", geographic_origin, 3)
        origin = GeographicOrigin(*place).check("--geographic_origin")
    options = {"skip_bad_frames": skip_bad_frames, "index": index}
    options["long_side"] = network.long_side or LONG_SIDE
    use_compilation_cache()
    limit_pictures(max_megapixels)
    is_remote = engine.on_ray and "://" in images
    if poses is None and not is_remote and lacks_poses(images):
        if engine.on_ray:
            raise UsageError("--engine=ray needs poses; leave it out, or give --poses")
        if origin is not None:
            raise UsageError("--geographic_origin is of poses, which these images lack; drop it")
        from jaxreloc.capture import from_photographs

        for line in from_photographs.build_map_from_photographs(
            images, out, network.named, distance=distance, **options
        ):
            print(line)
        return
    if distance:
        raise UsageError("--distance is for photographs without poses; drop it")
    build_map = building.build_map
    if engine.on_ray:
        from jaxreloc.scale import distributed_building

        build_map = functools.partial(
            distributed_building.build_map,
            max_pixels=round(1e6 * max_megapixels),
            address=engine.address,
            workers=engine.workers,
        )
    print(
        build_map(images, out, network.named, poses=poses, geographic_origin=origin, **options)
    )


def add(
    map: Map,
    images: Images,
    poses: Poses = None,
    skip_bad_frames: SkipBadFrames = False,
    max_megapixels: MaxMegapixels = 200.0,
) -> None:
    """Adds photographs to a map."""
    from jaxreloc.compilation.compilation_cache import use_compilation_cache
    from jaxreloc.localization.jobs import building

    use_compilation_cache()
    limit_pictures(max_megapixels)
    print(building.add_to_map(map, images, poses=poses, skip_bad_frames=skip_bad_frames))


def remove(
    map: Map, names: Annotated[Listed, flag("Images of the map, separated by commas.", "A,B")]
) -> None:
    """Takes photographs out of a map."""
    from jaxreloc.localization.jobs import building

    print(building.remove_from_map(map, names))


def depth(map: Map) -> None:
    """Adds missing depths to a map."""
    from jaxreloc.compilation.compilation_cache import use_compilation_cache
    from jaxreloc.localization.jobs import building

    use_compilation_cache()
    folder = pathlib.Path(map).expanduser()
    count = building.triangulate_map(folder)
    building.keep_up(folder)  # an interrupted build did not come to that either
    print(f"{building.describe_map(folder)}; {count} triangulated")


def index(
    map: Map,
    parts: Annotated[
        int | None, flag("Files to split it into: a server's shards (1).", "N")
    ] = None,
) -> None:
    """Makes a map's search index, or makes it again."""
    from jaxreloc.localization.jobs import building

    print(building.index_map(map, parts))


def info(map: Map) -> None:
    """Says how many images a map holds, and how large it is."""
    from jaxreloc.localization.jobs import building

    folder = pathlib.Path(map).expanduser()
    print(building.describe_map(folder))
    for part, size in building.bytes_by_part(folder).items():
        print(f"{size / 1e3:8.1f} kB an image: {part}")


def check(
    map: Map,
    files: Annotated[bool, flag("Compare files with their checksums instead.")] = False,
) -> None:
    """Finds wrong poses, and images that are blurred or that too few others overlap."""
    if files:
        _check_files(pathlib.Path(map).expanduser())
        return
    from jaxreloc.compilation.compilation_cache import use_compilation_cache
    from jaxreloc.localization.care.map_check import check_map
    from jaxreloc.localization.map.scene_map import SceneMap

    use_compilation_cache()
    scene_map = SceneMap.open(map)
    checked = check_map(scene_map, _bar(None, "localizing"))
    for problem in checked.problems:
        print(f"{problem.kind:14}{problem.name}: {problem.advice}")
    print(f"{map}: {checked}")
    if wrong := [problem.name for problem in checked.of_kind("wrong pose")]:
        raise UsageError(
            f"{map}: {len(wrong)} wrong poses; take the images out with jaxreloc map remove "
            f"--map={map} --names={','.join(wrong)}"
        )


def merge(
    map: Map,
    other: Annotated[str, flag("Folder of the map that is added to it.", "DIR")],
    out: Annotated[str, flag("Folder of the new map.", "DIR")],
) -> None:
    """Makes one map of two of the same place."""
    from jaxreloc.compilation.compilation_cache import use_compilation_cache
    from jaxreloc.localization.care.map_merge import merge_maps

    use_compilation_cache()
    first, second, new = (pathlib.Path(path).expanduser() for path in (map, other, out))
    print(merge_maps(first, second, new, _bar(None, "localizing")))


def export(
    map: Map,
    out: Annotated[str, flag("The new folder.", "DIR")],
    format: Annotated[Literal["colmap", "nerfstudio"], flag("colmap or nerfstudio.", "NAME")],
    images: Annotated[
        str | None, flag("Folder of its photographs, for nerfstudio.", "DIR")
    ] = None,
) -> None:
    """Writes a map with its points for other programs."""
    from jaxreloc.compilation.compilation_cache import use_compilation_cache
    from jaxreloc.localization.care.map_export import export_map
    from jaxreloc.localization.map.scene_map import SceneMap

    use_compilation_cache()
    scene_map = SceneMap.open(map)
    line = export_map(
        scene_map,
        pathlib.Path(out).expanduser(),
        format,
        images=pathlib.Path(images).expanduser() if images else None,
        progress=_bar(len(scene_map), "matching"),
    )
    print(line)


def _bar(total: int | None, what: str) -> Callable[[Iterable], Iterable]:
    from jaxreloc.progress_bars import progress_bar

    return functools.partial(progress_bar, what=what, total=total)


def _check_files(folder: pathlib.Path) -> None:
    """Compares every file of a map with the checksum that was written with it."""
    from jaxreloc.localization.map import map_files

    problems = map_files.check_files(folder)
    for problem in problems:
        print(problem)
    if problems:
        raise UsageError(f"{folder}: {len(problems)} problem(s); copy or build the map again")
    print(f"{folder}: every file is as it was written")
