"""`jaxreloc map`: builds, changes and describes maps."""

import pathlib
from typing import Annotated

from jaxreloc.cli.options import MaxMegapixels, Network, limit_pictures
from jaxreloc.cli.parsing import Listed, flag, numbers

Images = Annotated[str, flag("Folder of the photographs.", "DIR")]
Poses = Annotated[str | None, flag("Their poses, where they lie apart.", "PATH")]
SkipBadFrames = Annotated[bool, flag("Leave bad frames out, and list them.")]
Map = Annotated[str, flag("Folder of the map.", "DIR")]


def build(
    images: Images,
    out: Annotated[str, flag("Folder of the new map.", "DIR")],
    poses: Poses = None,
    skip_bad_frames: SkipBadFrames = False,
    geographic_origin: Annotated[
        Listed, flag("Of poses whose axes are East, North, Up.", "LAT,LON,HEIGHT")
    ] = (),
    max_megapixels: MaxMegapixels = 200.0,
    network: Network = Network(),
) -> None:
    """Makes a map of photographs with known poses."""
    from jaxreloc.compilation.compilation_cache import use_compilation_cache
    from jaxreloc.formats.common.geodesy import GeographicOrigin
    from jaxreloc.localization.jobs import building
    from jaxreloc.localization.networks.loading import LONG_SIDE

    origin = None
    if geographic_origin:
        place = numbers("geographic_origin", geographic_origin, 3)
        origin = GeographicOrigin(*place).check("--geographic_origin")
    use_compilation_cache()
    limit_pictures(max_megapixels)
    line = building.build_map(
        images,
        out,
        network.named,
        poses=poses,
        skip_bad_frames=skip_bad_frames,
        long_side=network.long_side or LONG_SIDE,
        geographic_origin=origin,
    )
    print(line)


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
    """Says how far the cells of a map's images are, where an interrupted build did not."""
    from jaxreloc.compilation.compilation_cache import use_compilation_cache
    from jaxreloc.localization.jobs import building

    use_compilation_cache()
    count = building.triangulate_map(map)
    print(f"{building.describe_map(pathlib.Path(map).expanduser())}; {count} triangulated")


def info(map: Map) -> None:
    """Says how many images a map holds, and how large it is."""
    from jaxreloc.localization.jobs import building

    folder = pathlib.Path(map).expanduser()
    print(building.describe_map(folder))
    for part, size in building.bytes_by_part(folder).items():
        print(f"{size / 1e3:8.1f} kB an image: {part}")


def check(map: Map) -> None:
    """Compares every file of a map with the checksum that was written with it."""
    from jaxreloc.localization.map import map_files
    from jaxreloc.usage import UsageError

    folder = pathlib.Path(map).expanduser()
    problems = map_files.check_files(folder)
    for problem in problems:
        print(problem)
    if problems:
        raise UsageError(f"{folder}: {len(problems)} problem(s); copy or build the map again")
    print(f"{folder}: every file is as it was written")
