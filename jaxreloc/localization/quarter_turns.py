"""A query's picture as the network looks at it: as given, or turned by quarter turns.

The network matches what is upright as in the map, or turned by some 30 degrees; by 60 it loses half
of the queries, by 90 nearly all. A phone held on its side, whose pictures do not say so, turns
everything by 90. Which turn is right is voted on: by the pose that was found of the picture as
given, and where there is none by how much of each turned picture the map shows.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8

from jaxreloc.images import turn

QUARTER_TURNS = (1, 2, 3)  # that are looked at besides the picture as given
# The neighbours that vote on a turn. Of 65 hard pictures of validation rooms that are answered in
# one of four turns, three vote for the right one in 61, one in 60, ten in 59.
VOTERS = 3
# Turned pictures are rarer than others, and pictures of another place have three more chances. Of
# 168 such queries of validation rooms 9 would be answered, with this threshold 7 (2 of them as
# given). Of 256 good answers to turned pictures of these rooms it keeps 235.
MIN_CONFIDENCE = 0.95  # of an answer to a turned picture


@dataclasses.dataclass(frozen=True)
class View:
    """A picture, its intrinsics, and how it came from the one as given.

    Attributes:
      turn_deg: counterclockwise.
      view_from_given: takes points of the camera of the picture as given to this one's frame.
      focal_deviation: of the logarithm of the focal length; None: it is known.
    """

    image: UInt8[np.ndarray, "h w 3"]
    intrinsics: Float[np.ndarray, "3 3"]
    turn_deg: int = 0
    view_from_given: Float[np.ndarray, "3 3"] = dataclasses.field(default_factory=lambda: np.eye(3))
    focal_deviation: float | None = None

    def pose_as_given(self, world_from_view: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
        """world_from_given of the same place."""
        world_from_given = np.array(world_from_view, np.float64)
        world_from_given[:3, :3] = world_from_given[:3, :3] @ self.view_from_given
        return world_from_given


def turned_view(given: View, turns: int) -> View:
    """The picture turned counterclockwise by so many quarter turns."""
    image, intrinsics, rotation = turn(given.image, given.intrinsics, turns)
    return View(image, intrinsics, 90 * turns, rotation, given.focal_deviation)


def turns_to_database(
    world_from_query: Float[np.ndarray, "4 4"], world_from_db: Float[np.ndarray, "N 4 4"]
) -> int:
    """The quarter turns after which a query is held as database images are, as near as may be.

    The in-plane rotation that is nearest (Frobenius) to a rotation R is by atan2(R10 - R01, R00 +
    R11), and that nearest to all R of the query to the database images by the sums of these; a
    turn counterclockwise adds 90 degrees.
    """
    db_from_query = np.swapaxes(world_from_db[:, :3, :3], 1, 2) @ world_from_query[:3, :3]
    total = db_from_query.sum(axis=0)
    roll = np.arctan2(total[1, 0] - total[0, 1], total[0, 0] + total[1, 1])
    return int(-np.rint(roll / (np.pi / 2))) % 4
