"""SIFT features of photographs, by COLMAP, into its database.

The pictures are decoded here, upright, and features are found in at most LONG_SIDE pixels; where
they lie is of the picture at full size. COLMAP's names for pictures are ours, quoted.
"""

import concurrent.futures
import os
import pathlib
import urllib.parse
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

import cv2
import numpy as np

from jaxreloc.capture.photographs import Photograph
from jaxreloc.capture.sfm.quiet_colmap import pycolmap
from jaxreloc.formats.common.collector import BadFrames
from jaxreloc.images import read_image, shrunk

LONG_SIDE = 1600
MAX_FEATURES = 4096
CAMERA_MODEL = "SIMPLE_RADIAL"  # a focal length and one coefficient of distortion
UNKNOWN_FOCAL = 1.2  # of the longer side, to start from; COLMAP's own
AT_ONCE = 16  # pictures in memory


def quoted(name: str) -> str:
    """The name in COLMAP's files, where it may have no space."""
    return urllib.parse.quote(name, safe="/", errors="surrogateescape")


def extract(
    database: pathlib.Path,
    photographs: Sequence[Photograph],
    bad: BadFrames,
    progress: Callable[[Iterable, int], Iterable],
) -> None:
    """Adds the photographs that the database does not have.

    Args:
      bad: what to do with a picture that breaks off in the middle.
      progress: wraps the iteration over so many photographs.
    """
    with pycolmap.Database.open(database) as opened:
        known = {image.name for image in opened.read_all_images()}
        new = [x for x in photographs if quoted(x.name) not in known]
        cameras = _cameras(opened, photographs)
        for photograph, described in progress(_described(new), len(new)):
            with bad.guard():
                keypoints, descriptors = described.result()
                with pycolmap.DatabaseTransaction(opened):
                    camera = cameras.get(photograph.camera)
                    if camera is None:
                        camera = cameras[photograph.camera] = write_camera(opened, photograph)
                    image = pycolmap.Image(name=quoted(photograph.name), camera_id=camera)
                    key = write_image(opened, image)
                    opened.write_keypoints(key, keypoints)
                    opened.write_descriptors(key, descriptors)


def _described(
    photographs: Sequence[Photograph],
) -> Iterator[tuple[Photograph, concurrent.futures.Future]]:
    """Each with its keypoints and descriptors to come, a few ahead."""
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        for start in range(0, len(photographs), AT_ONCE):
            some = photographs[start : start + AT_ONCE]
            yield from zip(some, [threads.submit(_describe, x) for x in some], strict=True)


def _describe(
    photograph: Photograph,
) -> tuple[np.ndarray, pycolmap.FeatureDescriptors]:
    """COLMAP counts pixels from the corner, so that a scaled picture's only have to be scaled."""
    image = read_image(photograph.path)
    small = shrunk(image, LONG_SIDE)
    options = pycolmap.FeatureExtractionOptions(num_threads=1, use_gpu=False)
    options.sift.max_num_features = MAX_FEATURES
    extractor = pycolmap.FeatureExtractor.create(options, pycolmap.Device.cpu)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    found, descriptors = extractor.extract_from_uint8_array(grey)
    keypoints = pycolmap.keypoints_to_matrix(found)
    across, down = image.shape[1] / small.shape[1], image.shape[0] / small.shape[0]
    keypoints[:, :3] *= np.float32([across, down, across])
    return keypoints, descriptors


def _cameras(
    database: pycolmap.Database, photographs: Sequence[Photograph]
) -> dict[Hashable, int]:
    """The numbers of the cameras that are in the database already."""
    by_name = {image.name: image.camera_id for image in database.read_all_images()}
    names = ((x.camera, quoted(x.name)) for x in photographs)
    return {camera: by_name[name] for camera, name in names if name in by_name}


def write_camera(database: pycolmap.Database, photograph: Photograph) -> int:
    """With a rig of its own, which COLMAP wants; what EXIF says is where its search begins."""
    width, height = photograph.header.size
    known = photograph.focal_px or _focal_by_model(photograph)
    camera = pycolmap.Camera.create_from_model_name(
        0, CAMERA_MODEL, known or UNKNOWN_FOCAL * max(width, height), width, height
    )
    camera.has_prior_focal_length = known is not None
    key = database.write_camera(camera)
    rig = pycolmap.Rig()
    rig.add_ref_sensor(_sensor(key))
    database.write_rig(rig)
    return key


def _focal_by_model(photograph: Photograph) -> float | None:
    """From COLMAP's table of sensors, where EXIF says the camera and its focal length alone."""
    if not photograph.header.camera_name:
        return None
    try:
        camera = pycolmap.infer_camera_from_image(photograph.path)
    except Exception:  # whatever it makes of a file that it cannot read
        return None
    return camera.mean_focal_length() if camera.has_prior_focal_length else None


def write_image(database: pycolmap.Database, image: pycolmap.Image) -> int:
    """With a frame of its own, which COLMAP wants."""
    key = database.write_image(image)
    sensor = _sensor(image.camera_id)
    frame = pycolmap.Frame()
    frame.rig_id = database.read_rig_with_sensor(sensor).rig_id
    frame.add_data_id(pycolmap.data_t(sensor, key))
    database.write_frame(frame)
    return key


def _sensor(camera: int) -> pycolmap.sensor_t:
    return pycolmap.sensor_t(pycolmap.SensorType.CAMERA, camera)


def num_features(database: pathlib.Path) -> dict[str, int]:
    """By COLMAP's name of each picture."""
    with pycolmap.Database.open(database) as opened:
        return {
            image.name: opened.num_keypoints_for_image(image.image_id)
            for image in opened.read_all_images()
        }
