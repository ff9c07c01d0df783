"""The features that every builder of posed frames yields, under the same names."""

import cv2
import numpy as np
import tensorflow_datasets as tfds

from jaxreloc.images import decode_depth


class DepthImage(tfds.features.FeatureConnector):
    """A depth image: float32 metres along the optical axis, [h, w], 0 where there is none.

    Stored as a 16-bit PNG in millimetres. Takes the bytes of such a file, kept as they are, or an
    array in metres, rounded to millimetres. 0 and 65535 both mean none in the file.
    """

    def get_tensor_info(self):
        return tfds.features.TensorInfo(shape=(None, None), dtype=np.float32)

    def get_serialized_info(self):
        return tfds.features.TensorInfo(shape=(), dtype=np.object_)

    def encode_example(self, example_data: bytes | np.ndarray) -> bytes:
        if isinstance(example_data, bytes):
            return example_data
        millimetres = np.rint(np.nan_to_num(example_data) * 1000.0)
        if millimetres.ndim != 2 or millimetres.min(initial=0.0) < 0 or millimetres.max() >= 65535:
            raise ValueError("depth must be [h, w], from 0 to 65.534 metres")
        _, encoded = cv2.imencode(".png", millimetres.astype(np.uint16))
        return encoded.tobytes()

    def decode_example(self, tfexample_data):
        import tensorflow as tf

        raw = tf.image.decode_png(tfexample_data, channels=1, dtype=tf.uint16)[..., 0]
        metres = tf.cast(raw, tf.float32) / 1000.0
        return tf.where(raw == 65535, 0.0, metres)

    def decode_example_np(self, example_data: bytes) -> np.ndarray:
        return decode_depth(example_data, "depth feature")


def frame_features(*, depth: bool = False) -> tfds.features.FeaturesDict:
    """The features of one posed frame.

    `world_from_cam` is rigid, in metres, of OpenCV camera axes; `intrinsics` is in pixels of
    `image`, whose pixel (0, 0) is the centre of the top-left pixel.

    Args:
      depth: adds `depth`, and `depth_intrinsics` since a depth camera may not be the colour camera.
    """
    features = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "world_from_cam": tfds.features.Tensor(shape=(4, 4), dtype=np.float32),
        "intrinsics": tfds.features.Tensor(shape=(3, 3), dtype=np.float32),
        "scene": tfds.features.Text(),
        "sequence": tfds.features.Text(),
        "frame": tfds.features.Scalar(dtype=np.int32),
        "image_id": tfds.features.Text(),
    }
    if depth:
        features["depth"] = DepthImage()
        features["depth_intrinsics"] = tfds.features.Tensor(shape=(3, 3), dtype=np.float32)
    return tfds.features.FeaturesDict(features)
