"""Writes a COLMAP model: pinhole cameras, images with their poses, and points."""

import pathlib
from collections.abc import Iterable

import numpy as np

from jaxreloc.extras import extra
from jaxreloc.formats.common.camera_models import Camera
from jaxreloc.formats.rigid_arrays import inverse, quaternion_wxyz
from jaxreloc.formats.writers.scene_content import PosedCamera, ScenePoints


def write_colmap_model(
    folder: pathlib.Path, images: Iterable[PosedCamera], points: ScenePoints | None = None
) -> None:
    """Writes a binary model into a folder that exists; images of equal cameras share one.

    Raises:
      UsageError: pycolmap is absent.
    """
    with extra("colmap"):
        import pycolmap

    model, cameras = pycolmap.Reconstruction(), {}
    pixels_of, tracks = _observations(points)
    for key, image in enumerate(images, start=1):
        if image.camera not in cameras:
            cameras[image.camera] = len(cameras) + 1
            model.add_camera_with_trivial_rig(
                pycolmap.Camera(
                    model="PINHOLE",
                    width=image.camera.width,
                    height=image.camera.height,
                    params=_corner_parameters(image.camera),
                    camera_id=cameras[image.camera],
                )
            )
        cam_from_world = inverse(image.world_from_cam)
        w, x, y, z = quaternion_wxyz(cam_from_world)
        model.add_image_with_trivial_frame(
            pycolmap.Image(
                name=image.name,
                keypoints=pixels_of.get(key - 1, np.zeros((0, 2))) + 0.5,
                camera_id=cameras[image.camera],
                image_id=key,
            ),
            pycolmap.Rigid3d(pycolmap.Rotation3d([x, y, z, w]), cam_from_world[:3, 3]),
        )
    for i, track in enumerate(tracks):
        elements = [pycolmap.TrackElement(image + 1, place) for image, place in track]
        model.add_point3D(points.positions[i], pycolmap.Track(elements), points.colors[i])
    model.update_point_3d_errors()
    model.write_binary(str(folder))


def _corner_parameters(camera: Camera) -> list[float]:
    """fx fy cx cy, where (0, 0) is the corner of the top-left pixel."""
    return [camera.fx, camera.fy, camera.cx + 0.5, camera.cy + 0.5]


def _observations(
    points: ScenePoints | None,
) -> tuple[dict[int, np.ndarray], list[list[tuple[int, int]]]]:
    """The pixels of each image, and for each point its images and its place among their pixels."""
    if points is None:
        return {}, []
    pixels_of = {}
    place = np.zeros(len(points.image_of), int)
    for image in np.unique(points.image_of):
        rows = np.flatnonzero(points.image_of == image)
        pixels_of[int(image)] = points.pixels[rows].astype(np.float64)
        place[rows] = np.arange(len(rows))
    tracks: list[list[tuple[int, int]]] = [[] for _ in points.positions]
    for point, image, at in zip(points.point_of, points.image_of, place, strict=True):
        tracks[point].append((int(image), int(at)))
    return pixels_of, tracks
