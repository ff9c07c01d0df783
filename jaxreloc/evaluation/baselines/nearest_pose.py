"""The baseline of pure retrieval: the pose of the most similar image, as it stands."""

import numpy as np

from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.query_state import Localization, Query


def copy_nearest(localizer: Localizer, query: Query) -> Localization:
    """The pose of the query's first neighbour, always a success, of unknown uncertainty."""
    inliers = np.arange(len(query.neighbors)) == 0
    return Localization(
        world_from_query=localizer.scene_map.world_from_db[query.neighbors[0]],
        success=True,
        confidence=0.0,
        location_inliers=inliers,
        rotation_inliers=inliers,
        position_covariance=np.full((3, 3), np.inf),
        rotation_std=np.inf,
        neighbors=query.neighbors,
        stage_ms=query.clock.stage_ms,
    )
