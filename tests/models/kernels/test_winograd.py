"""Against the paper's matrix, and SciPy's correlation."""

import jax
import numpy as np
import pytest
from scipy.signal import correlate2d

from jaxreloc.models.kernels.winograd import conv3x3, transform_kernel

# G of F(2x2, 3x3): Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", section 4.1.
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])

convolve = jax.jit(lambda x, kernel: conv3x3(x, transform_kernel(kernel)))


def correlated(x, kernel):
    """SciPy's, summed over the channels."""
    return np.stack(
        [
            [
                sum(correlate2d(image[..., c], kernel[..., c, d], "same") for c in range(len(each)))
                for d, each in enumerate(kernel[0, 0].T)
            ]
            for image in x
        ]
    ).transpose(0, 2, 3, 1)


def test_the_kernel_is_transformed_by_the_papers_matrix(rng):
    """Quarters of small whole numbers are exact."""
    kernel = rng.integers(-9, 10, (3, 3, 2, 5)).astype(np.float32)
    expected = np.einsum("ik,jl,klcd->ijcd", G, G, kernel).reshape(16, 2, 5)
    np.testing.assert_array_equal(transform_kernel(kernel), expected)


@pytest.mark.parametrize("height, width", [(4, 6), (5, 3), (2, 1)])
def test_the_convolution_is_scipys(rng, height, width):
    """Exact for small whole numbers; whole tiles, and half ones at the lower and right edge."""
    x = rng.integers(-9, 10, (2, height, width, 3))
    kernel = rng.integers(-9, 10, (3, 3, 3, 4))
    found = convolve(x.astype(np.float32), kernel.astype(np.float32))
    np.testing.assert_array_equal(found, correlated(x, kernel))


def test_rounding_stays_small_beside_the_largest_sum(rng):
    x, kernel = rng.normal(size=(1, 5, 6, 3)), rng.normal(size=(3, 3, 3, 4))
    found = convolve(x.astype(np.float32), kernel.astype(np.float32))
    largest = correlated(np.abs(x), np.abs(kernel)).max()
    np.testing.assert_allclose(found, correlated(x, kernel), rtol=0, atol=2e-6 * largest)
