"""`RoomSettings`: all that decides what the rooms of a dataset look like."""

import dataclasses

from jaxreloc.formats.readers.seven_scenes import ROOMS

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Distances:
    """How near cameras come to things, metres.

    Attributes:
      subject: of the middle of a path in the database, from what it looks at.
      median, near: the least median depth of a picture, and of its nearest tenth.
    """

    subject: tuple[float, float] = (0.7, 2.6)
    median: float = 0.6
    near: float = 0.3


@dataclasses.dataclass(frozen=True)
class RoomSettings:
    """Sizes, counts and ranges; a room is a pure function of these, its split and its index."""

    seed: int = 0
    width: int = 256  # of a landscape picture; portrait ones are as wide as this is high
    height: int = 192
    database_paths: int = 3
    query_paths: int = 1
    frames_per_path: int = 20
    focal_lengths: tuple[float, float] = (0.75, 1.1)  # range, in lengths of the longer side
    principal_point_offset: float = 0.0  # standard deviation, in lengths of the longer side
    portrait_share: float = 0.0  # of the paths
    roll_deg: float = 6.0  # standard deviation of the in-plane rotation
    min_query_overlap: float = 0.3  # share of a query's points that one database picture sees
    light_change: float = 0.15  # standard deviation of log lamp intensity between paths
    moved_share: float = (
        0.0  # of the small things before the queries, on average; half the rooms: 0
    )
    moved_furniture: float = 0.0  # the same of the furniture, in these rooms
    distances: Distances = Distances()
    spoilt_share: float = 0.0  # of the paths, whose pictures are blurred, noisy or badly exposed
    pictured_share: float = 0.0  # of the surfaces, which are covered with photographs
    image_format: str = "png"  # or "jpg"
    library: str = ""  # folder of a prepared furniture library; without one all is procedural
    known_paths: bool = False  # of named rooms, see `known_paths`; a tenth of a path's pictures
    names: tuple[str, ...] = ()  # of the rooms by their index; without names SPLIT-INDEX

    def scene(self, split: str, index: int) -> str:
        """The name of a room, as in "train-003"."""
        return self.names[index] if self.names else f"{split}-{index:03d}"


PROCEDURAL = RoomSettings()
FURNISHED = RoomSettings(
    database_paths=4,
    query_paths=2,
    frames_per_path=24,
    focal_lengths=(0.6, 1.6),
    principal_point_offset=0.01,
    portrait_share=0.3,
    roll_deg=12.0,
    light_change=0.35,
    moved_share=0.15,
    image_format="jpg",
)
FURNISHED_LARGE = dataclasses.replace(FURNISHED, width=512, height=384, frames_per_path=12)
# Pictures of one room that share little: from near and far, turned, through other lenses, spoilt.
FURNISHED_HARD = dataclasses.replace(
    FURNISHED_LARGE,
    seed=11,
    database_paths=5,
    query_paths=3,
    frames_per_path=6,
    focal_lengths=(0.55, 1.7),
    portrait_share=0.15,
    roll_deg=40.0,
    min_query_overlap=0.1,
    light_change=0.5,
    moved_share=0.25,
    moved_furniture=0.15,
    distances=Distances(subject=(0.35, 3.0), median=0.3, near=0.15),
    spoilt_share=0.35,
    pictured_share=0.15,
)
# As 7-Scenes is recorded: one camera, many pictures, and test paths that look where training paths
# did, so that the most similar image is about as far off as there.
NAMED = RoomSettings(
    seed=7,
    width=320,
    height=240,
    database_paths=8,
    query_paths=4,
    frames_per_path=125,
    focal_lengths=(0.82, 0.82),
    min_query_overlap=0.5,
    image_format="jpg",
    names=ROOMS,
)
# The same rooms and paths, of which a tenth of the pictures is taken.
NAMED_SMALL = dataclasses.replace(NAMED, frames_per_path=13, known_paths=True)
