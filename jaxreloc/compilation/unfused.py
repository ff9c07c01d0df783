"""What the CPU compiler computes once, however often it is used."""

from jaxtyping import Array


def unfused(x: Array) -> Array:
    """`x`, finite numbers, which XLA's CPU compiler will not compute again at each use.

    The compiler fuses into whatever reads an array, strided or element by element, the elementwise
    operations that made it, unless it counts the last one as expensive, as it does a division by
    an array. `optimization_barrier` is gone before fusion, and a division by a constant becomes a
    product.
    """
    return x / (1 + 0 * x)
