"""The content of a report as a recording for the Rerun viewer; needs `rerun-sdk`, an extra."""

import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxreloc.evaluation.report.content import Cameras, SceneContent, upright
from jaxreloc.extras import extra
from jaxreloc.files import replacing
from jaxreloc.images import image_size

DATABASE, TRUTH, ESTIMATE = (152, 161, 179), (20, 137, 90), (217, 72, 15)
TIMELINE = "query"


def require_package() -> None:
    """Raises UsageError, saying how to get it, unless Rerun can be imported."""
    with extra("rerun"):
        import rerun  # noqa: F401


def write_recording(path: pathlib.Path, scenes: Sequence[SceneContent]) -> None:
    """Writes a .rrd file, by rename.

    `SCENE/database/INDEX` holds the map's cameras; `SCENE/query/truth`, `SCENE/query/METHOD` and
    the pictures `SCENE/query/picture` and `SCENE/query/retrieved/RANK` change along the timeline
    "query", as do the scalars `SCENE/error/METHOD/...`.

    Raises:
      UsageError: the package is missing or the file cannot be written.
    """
    require_package()
    import rerun

    with replacing(path) as temporary:
        stream = rerun.RecordingStream("jaxreloc")
        stream.save(temporary)
        for scene in scenes:
            _SceneLog(stream, scene).write()
        stream.flush()
        stream.disconnect()


class _SceneLog:
    """Logs one scene; entities are below the scene's name."""

    def __init__(self, stream, scene: SceneContent):
        import rerun

        self._rerun = rerun
        self._stream = stream
        self._scene = scene
        self._root = rerun.escape_entity_path_part(scene.name)
        extent = np.ptp(scene.database.world_from_cam[:, :3, 3], axis=0)
        self._plane_distance = 0.05 * max(float(np.linalg.norm(extent)), 1e-6)

    def write(self) -> None:
        scene = self._scene
        up = upright(scene.database.world_from_cam)
        self._log("", self._rerun.Transform3D(mat3x3=up), static=True)
        for i, pose in enumerate(scene.database.world_from_cam):
            thumbnail = scene.db_thumbnails.get(i)
            entity = f"database/{i:05d}"
            self._camera(entity, scene.database, i, pose, DATABASE, thumbnail, static=True)
        errors = {key: scene.errors(key) for key in scene.estimates}
        for i in range(len(scene.queries)):
            self._stream.set_time(TIMELINE, sequence=i)
            self._query(i)
            for key, of_method in errors.items():
                if of_method is not None and scene.estimates[key].success[i]:
                    for quantity in ("position_m", "rotation_deg"):
                        value = float(getattr(of_method, quantity)[i])
                        self._log(f"error/{key}/{quantity}", self._rerun.Scalars(value))
        self._stream.reset_time()

    def _query(self, i: int) -> None:
        scene = self._scene
        pictures = scene.pictures.get(i)
        thumbnail = pictures and pictures.thumbnail
        self._log("query/name", self._rerun.TextLog(scene.queries.names[i]))
        if scene.queries.world_from_cam is not None:
            truth = scene.queries.world_from_cam[i]
            self._camera("query/truth", scene.queries, i, truth, TRUTH, None)
        for key, estimates in scene.estimates.items():
            self._log(f"query/{key}", self._rerun.Clear(recursive=True))
            if estimates.success[i]:
                pose = estimates.world_from_query[i]
                self._camera(f"query/{key}", scene.queries, i, pose, ESTIMATE, thumbnail)
        if pictures:
            self._log("query/picture", self._picture(pictures.thumbnail))
            for rank, neighbor in enumerate(pictures.neighbors):
                picture = self._picture(scene.db_thumbnails[neighbor])
                self._log(f"query/retrieved/{rank}", picture)

    def _camera(
        self,
        entity: str,
        cameras: Cameras,
        i: int,
        world_from_cam: Float[np.ndarray, "4 4"],
        color: tuple[int, int, int],
        thumbnail: bytes | None,
        *,
        static: bool = False,
    ) -> None:
        """A frustum, with the picture in it if there is one."""
        size = image_size(thumbnail) if thumbnail else tuple(cameras.image_sizes[i])
        scale = size[0] / cameras.image_sizes[i][0]
        intrinsics = np.array(cameras.intrinsics[i], np.float64)
        intrinsics[:2] *= scale
        intrinsics[:2, 2] += (scale - 1) / 2
        pinhole = self._rerun.Pinhole(
            image_from_camera=intrinsics,
            resolution=size,
            camera_xyz=self._rerun.ViewCoordinates.RDF,
            image_plane_distance=self._plane_distance,
            color=color,
        )
        pose = self._rerun.Transform3D(
            translation=world_from_cam[:3, 3], mat3x3=world_from_cam[:3, :3]
        )
        self._log(entity, pose, pinhole, static=static)
        if thumbnail:
            self._log(f"{entity}/thumbnail", self._picture(thumbnail), static=static)

    def _picture(self, jpeg: bytes):
        return self._rerun.EncodedImage(contents=jpeg, media_type="image/jpeg")

    def _log(self, entity: str, *components, static: bool = False) -> None:
        path = f"{self._root}/{entity}" if entity else self._root
        self._stream.log(path, *components, static=static)
