"""Structure from known motion, as hloc does it: a map of points, and a query's pose from them.

Settings that hloc leaves at COLMAP's defaults are better ones here, chosen on validation rooms:
points that only two images see are kept, and so are pairs with fewer than 15 matches and points
whose rays meet at half a degree or more (1.5); RANSAC's threshold is 6 px (12). With every third
database image, recall within 10 cm and 5 deg rises from 67% to 84% (SIFT, COLMAP's options).
"""

import dataclasses
import itertools
import pathlib
import tempfile
from collections.abc import Iterable, Sequence

import numpy as np
import pycolmap
from jaxtyping import Bool, Float, Int, UInt8

from benchmarks.peers.local_features import Detector, LocalFeatures
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.rigid_arrays import inverse

EPIPOLAR_PX = 4.0  # of a match between database images, in both
INLIER_PX = 6.0  # of a query's match with a point
MIN_ANGLE_DEG = 0.5  # between the rays of a point
CORNER = 0.5  # COLMAP's pixel (0.5, 0.5) is the centre of the top-left pixel


@dataclasses.dataclass(frozen=True)
class PointMap:
    """A database's keypoints, and the points that they see.

    Attributes:
      features: of each image.
      xyz: the points, world axes.
      rows: for each image, the row of `xyz` that each of its keypoints sees, -1 if none.
    """

    detector: Detector
    features: Sequence[LocalFeatures]
    xyz: Float[np.ndarray, "P 3"]
    rows: Sequence[Int[np.ndarray, "n"]]

    @classmethod
    def from_frames(
        cls,
        database: PosedFrames,
        detector: Detector,
        pairs: Iterable[tuple[int, int]] | None = None,
    ) -> "PointMap":
        """Matches images, keeps what fits their known poses, and triangulates it by pycolmap.

        Args:
          pairs: of images to match; None takes all.
        """
        features = [detector.extract(database.images[i]) for i in range(len(database))]
        pairs = itertools.combinations(range(len(database)), 2) if pairs is None else pairs
        matches = {}
        for i, j in pairs:
            found = detector.match(features[i], features[j])
            points = features[i].points[found[:, 0]], features[j].points[found[:, 1]]
            matches[i, j] = found[fits_poses(*points, *_cameras(database, i, j))]
        points = _triangulate(database, features, matches)
        rows = [np.full(len(image.points), -1) for image in features]
        for row, point in enumerate(points):
            for element in point.track.elements:
                rows[element.image_id - 1][element.point2D_idx] = row
        xyz = np.array([point.xyz for point in points]).reshape(-1, 3)
        return cls(detector, features, xyz, rows)

    def locate(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"],
        neighbors: Iterable[int],
    ) -> Float[np.ndarray, "4 4"] | None:
        """`world_from_query` by RANSAC and refinement on the points that the neighbours see.

        Args:
          neighbors: the retrieved database images.

        Returns:
          None if no pose was found.
        """
        query = self.detector.extract(image)
        found = [np.zeros((0, 2), int)]
        for i in neighbors:
            matches = self.detector.match(query, self.features[i])
            found.append(np.stack([matches[:, 0], self.rows[i][matches[:, 1]]], axis=1))
        seen = np.unique(np.concatenate(found), axis=0)
        keypoints, rows = seen[seen[:, 1] >= 0].T
        options = pycolmap.AbsolutePoseEstimationOptions()
        options.ransac.max_error = INLIER_PX
        options.ransac.random_seed = 0
        answer = pycolmap.estimate_and_refine_absolute_pose(
            query.points[keypoints].astype(np.float64) + CORNER,
            self.xyz[rows],
            _pinhole(intrinsics, query.image_size),
            options,
        )
        if answer is None:
            return None
        world_from_query = np.eye(4)
        world_from_query[:3] = answer["cam_from_world"].inverse().matrix()
        return world_from_query


def fits_poses(
    points_a: Float[np.ndarray, "m 2"],
    points_b: Float[np.ndarray, "m 2"],
    intrinsics: Float[np.ndarray, "2 3 3"],
    world_from_cam: Float[np.ndarray, "2 4 4"],
) -> Bool[np.ndarray, "m"]:
    """Which matches lie within EPIPOLAR_PX of their epipolar lines in both images.

    `F = K_b^-T [t]x R K_a^-1` with `b_from_a = (R, t)`. Cameras in one place have no such lines.
    """
    b_from_a = inverse(world_from_cam[1]) @ world_from_cam[0]
    essential = np.cross(np.eye(3), b_from_a[:3, 3]) @ b_from_a[:3, :3]  # rows e_i x t: [t]x
    fundamental = np.linalg.inv(intrinsics[1]).T @ essential @ np.linalg.inv(intrinsics[0])
    a, b = (np.pad(points, ((0, 0), (0, 1)), constant_values=1) for points in (points_a, points_b))
    lines_b, lines_a = a @ fundamental.T, b @ fundamental
    product = np.abs(np.sum(b * lines_b, axis=1))
    nearer = np.minimum(
        np.linalg.norm(lines_a[:, :2], axis=1), np.linalg.norm(lines_b[:, :2], axis=1)
    )
    return (product <= EPIPOLAR_PX * nearer) & (nearer > 0)


def _triangulate(
    database: PosedFrames,
    features: Sequence[LocalFeatures],
    matches: dict[tuple[int, int], Int[np.ndarray, "m 2"]],
) -> list["pycolmap.Point3D"]:
    """The points; image i of the database is COLMAP's image i + 1."""
    options = pycolmap.IncrementalPipelineOptions(num_threads=1, random_seed=0, min_num_matches=1)
    options.triangulation.ignore_two_view_tracks = False
    options.triangulation.min_angle = options.mapper.filter_min_tri_angle = MIN_ANGLE_DEG
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "database.db"
        reconstruction = pycolmap.Reconstruction()
        with pycolmap.Database.open(path) as store:
            for i, cam_from_world in enumerate(inverse(database.world_from_cam)):
                camera = _pinhole(database.intrinsics[i], features[i].image_size)
                camera.camera_id = i + 1
                reconstruction.add_camera_with_trivial_rig(camera)
                image = pycolmap.Image(name=str(i), camera_id=i + 1, image_id=i + 1)
                reconstruction.add_image_with_trivial_frame(
                    image, pycolmap.Rigid3d(cam_from_world[:3])
                )
                store.write_camera(camera, use_camera_id=True)
                store.write_rig(reconstruction.rig(i + 1), use_rig_id=True)
                store.write_image(image, use_image_id=True)
                store.write_frame(reconstruction.frame(i + 1), use_frame_id=True)
                store.write_keypoints(i + 1, features[i].points + np.float32(CORNER))
            for (i, j), pairs in matches.items():
                geometry = pycolmap.TwoViewGeometry(
                    config=pycolmap.TwoViewGeometryConfiguration.CALIBRATED,  # or it is ignored
                    inlier_matches=pairs.astype(np.uint32),
                )
                store.write_matches(i + 1, j + 1, pairs.astype(np.uint32))
                store.write_two_view_geometry(i + 1, j + 1, geometry)
        found = pycolmap.triangulate_points(
            reconstruction, path, folder, pathlib.Path(folder), options=options
        )
        return list(found.points3D.values())


def _pinhole(intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int]) -> pycolmap.Camera:
    focal, centre = np.diag(intrinsics)[:2], intrinsics[:2, 2] + CORNER
    return pycolmap.Camera(
        model="PINHOLE", width=size[0], height=size[1], params=[*focal, *centre]
    )


def _cameras(frames: PosedFrames, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
    """Intrinsics and poses of two images."""
    return frames.intrinsics[[i, j]], frames.world_from_cam[[i, j]]
