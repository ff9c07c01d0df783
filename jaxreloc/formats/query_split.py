"""The frames of one scene parted into a database and queries."""

import numpy as np

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.usage import UsageError, check_choice

LOCALIZATION_SPLITS = ("database", "query")
DEFAULT_QUERY_EVERY = 5


def split_frames(
    frames: PosedFrames, split: str, *, query_every: int = DEFAULT_QUERY_EVERY
) -> PosedFrames:
    """The "database" or "query" part of a scene without splits of its own, or "all" of it.

    In the order of their names, every `query_every`-th frame is a query.

    Raises:
      UsageError: an unknown split, or too few frames to have a query.
    """
    check_choice("split", split, (*LOCALIZATION_SPLITS, "all"))
    order = np.array(sorted(range(len(frames)), key=frames.names.__getitem__))
    if split == "all":
        return frames.select(order)
    if not 2 <= query_every <= len(frames):
        raise UsageError(
            f"{frames.scene}: every {query_every}-th of {len(frames)} frames cannot be a query; "
            f"choose from 2 to the number of frames"
        )
    is_query = np.arange(1, len(order) + 1) % query_every == 0
    return frames.select(order[is_query if split == "query" else ~is_query])
