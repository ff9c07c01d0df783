"""TFDS builders of posed frames: `import tfds_builders` registers all four.

Afterwards `tfds.load("seven_scenes/chess", split="train")` gives a `tf.data.Dataset`, and
`tfds.data_source(...)` random access without TensorFlow, both from one build.
"""

from jaxreloc.extras import extra

with extra("datasets"):
    import tensorflow_datasets  # noqa: F401

from tfds_builders.posed_images import posed_images_dataset_builder
from tfds_builders.seven_scenes import seven_scenes_dataset_builder
from tfds_builders.synthetic_rooms import synthetic_rooms_dataset_builder
from tfds_builders.university import university_dataset_builder

__all__ = [
    "posed_images_dataset_builder",
    "seven_scenes_dataset_builder",
    "synthetic_rooms_dataset_builder",
    "university_dataset_builder",
]
