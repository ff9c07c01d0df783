"""Approximate retrieval with FAISS, for maps beyond what comparing all images can serve.

An optional extra: `pip install 'jaxreloc[faiss]'`.
"""

import numpy as np
from jaxtyping import Array, Float, Int

from jaxreloc.extras import extra

with extra("faiss"):
    import faiss

# Under this many images lists are not worth while, and each image is compared.
MIN_IMAGES = 10_000
TRAINING_PER_LIST = 40  # images; FAISS warns of fewer


class FaissIndex:
    """An `Index` of inverted lists whose descriptors take a byte a dimension.

    The number of lists grows with the square root of that of the images. A query looks into
    `lists_searched` of them.
    """

    def __init__(self, descriptors: Float[Array, "database dim"], *, lists_searched: int = 32):
        descriptors = np.ascontiguousarray(descriptors, np.float32)
        num_images, dim = descriptors.shape
        inner_product = faiss.METRIC_INNER_PRODUCT
        if num_images < MIN_IMAGES:
            self._index = faiss.IndexScalarQuantizer(
                dim, faiss.ScalarQuantizer.QT_8bit, inner_product
            )
            training = descriptors
        else:
            num_lists = int(2 * np.sqrt(num_images))
            name = f"IVF{num_lists},SQ8"
            self._index = faiss.index_factory(dim, name, inner_product)
            self._index.nprobe = lists_searched
            rows = np.random.default_rng(0).permutation(num_images)
            training = descriptors[np.sort(rows[: TRAINING_PER_LIST * num_lists])]
        self._index.train(training)
        self._index.add(descriptors)

    def __len__(self) -> int:
        return self._index.ntotal

    @property
    def nbytes(self) -> int:
        """The memory that the index takes."""
        return len(faiss.serialize_index(self._index))

    def search(
        self, descriptors: Float[Array, "queries dim"], count: int
    ) -> tuple[Int[np.ndarray, "queries count"], Float[np.ndarray, "queries count"]]:
        """See `retrieval.Index`; where the lists that were searched hold too few, the last image
        found is repeated."""
        similarities, indices = self._index.search(
            np.ascontiguousarray(descriptors, np.float32), min(count, len(self))
        )
        found = np.maximum((indices >= 0).sum(axis=1, keepdims=True), 1)
        column = np.minimum(np.arange(indices.shape[1])[None], found - 1)
        return (
            np.take_along_axis(indices, column, axis=1),
            np.take_along_axis(similarities, column, axis=1),
        )
