"""`RandomAccessBuilder`: one build that `tfds.load` and `tfds.data_source` both read.

TFDS reads array_record files by index only through `tfds.data_source` and refuses them in
`tfds.load`. A builder that derives from this class writes array_record unless told otherwise and
serves `tf.data` from the same files. TensorFlow is imported only when a `tf.data.Dataset` is
asked for; building and `tfds.data_source` do without it.
"""

import fcntl
import functools
import os
import pathlib
import shutil

import tensorflow_datasets as tfds

from jaxreloc.usage import UsageError

ARRAY_RECORD = "array_record"


class RandomAccessBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A generator-based builder whose one build serves random access and `tf.data`."""

    def __init__(self, *, file_format: str | None = None, **kwargs):
        super().__init__(file_format=None, **kwargs)
        built = self.info.initialized
        if file_format or not built:
            self.info.set_file_format(file_format or ARRAY_RECORD, override=not built)

    def download_and_prepare(self, **kwargs) -> None:
        """As TFDS's; one process at a time, which removes what killed ones have left."""
        if "://" in os.fspath(self.data_path):  # a bucket
            super().download_and_prepare(**kwargs)
            return
        folder = pathlib.Path(self.data_path).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise UsageError(
                f"{folder}: cannot be written ({error.strerror}); give another --data_dir"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.exists(self.data_path):  # by another process meanwhile
                self.info.read_from_directory(self.data_path)
            for left in folder.glob(f"incomplete.*_{self.version}"):
                shutil.rmtree(left, ignore_errors=True)
            super().download_and_prepare(**kwargs)
        finally:
            os.close(handle)

    def _as_dataset(self, split, decoders=None, read_config=None, shuffle_files=False):
        """A `tf.data.Dataset` of decoded examples of `split`.

        From array_record, `shuffle_files` shuffles the records themselves (from
        `read_config.shuffle_seed`), since any order costs the same there.
        """
        if self.info.file_format.value != ARRAY_RECORD:
            return super()._as_dataset(split, decoders, read_config, shuffle_files)
        import tensorflow as tf

        read_config = read_config or tfds.ReadConfig()
        if read_config.add_tfds_id:
            raise ValueError("add_tfds_id needs file_format='tfrecord'; use the feature image_id")
        features = self.info.features
        if isinstance(decoders, tfds.decode.PartialDecoding):
            features, decoders = decoders.extract_features(features), decoders.decoders
        records = self.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )

        def read(index):
            record = tf.numpy_function(lambda i: records[i], [index], tf.string, stateful=False)
            return tf.ensure_shape(record, ())

        dataset = tf.data.Dataset.range(len(records))
        if shuffle_files and len(records):
            dataset = dataset.shuffle(len(records), seed=read_config.shuffle_seed)
        if context := read_config.input_context:
            dataset = dataset.shard(context.num_input_pipelines, context.input_pipeline_id)
        decode = functools.partial(features.deserialize_example, decoders=decoders)
        dataset = dataset.map(read).map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        return dataset.with_options(read_config.options)
