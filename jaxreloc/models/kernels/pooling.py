"""3x3 max pooling of stride 2 as comparisons of shifted images.

XLA's CPU code for the gradient of a window's maximum is slow. Here the forward pass notes which of
the nine pixels won, and the backward pass gathers from the windows that a pixel may have won.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

SIZE, STRIDE = 3, 2


@jax.custom_vjp
def max_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """The maximum of each 3x3 window, one pixel of padding on each side.

    The first of equal pixels gets the gradient, as with `flax.linen.max_pool`.
    """
    return _maximum_and_winner(x)[0]


def _maximum_and_winner(
    x: Float[Array, "B H W C"],
) -> tuple[Float[Array, "B h w C"], Int8[Array, "B h w C"]]:
    _, height, width, _ = x.shape
    lowest = jnp.array(-jnp.inf, x.dtype)
    padded = jax.lax.pad(x, lowest, [(0, 0, 0), (1, 1, 0), (1, 1, 0), (0, 0, 0)])
    rows, columns = -(-height // STRIDE), -(-width // STRIDE)
    maximum = winner = None
    for i in range(SIZE):
        for j in range(SIZE):
            shifted = padded[:, i::STRIDE, j::STRIDE][:, :rows, :columns]
            if maximum is None:
                maximum, winner = shifted, jnp.zeros(shifted.shape, jnp.int8)
            else:
                winner = jnp.where(shifted > maximum, jnp.int8(SIZE * i + j), winner)
                maximum = jnp.maximum(maximum, shifted)
    return maximum, winner


def _forward(x: Array) -> tuple[Array, tuple[Array, tuple[int, ...]]]:
    maximum, winner = _maximum_and_winner(x)
    extent = jnp.zeros((0, *x.shape[1:3]))  # an array, as residuals are, for its shape
    return maximum, (winner, extent)


def _backward(residuals: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    """Padded pixel (2 u + a, 2 v + b) is pixel (a, b) of window (u, v), and pixel (2, b) of window
    (u - 1, v) where a is 0; likewise for columns."""
    winner, extent = residuals
    _, height, width = extent.shape
    # One window more on each side, which no pixel has won.
    around = ((0, 0), (1, 1), (1, 1), (0, 0))
    winner = jnp.pad(winner, around, constant_values=-1)
    gradient = jnp.pad(gradient, around)

    def won(i: int, j: int) -> Array:
        """The gradient at pixel (i, j) of windows, from window (-1, -1) or (0, 0) on."""
        rows = slice(0, -1) if i == 2 else slice(1, None)
        columns = slice(0, -1) if j == 2 else slice(1, None)
        here = winner[:, rows, columns] == SIZE * i + j
        return jnp.where(here, gradient[:, rows, columns], 0)

    def phase(a: int, b: int) -> Array:
        pixels = [(i, j) for i in range(a, SIZE, STRIDE) for j in range(b, SIZE, STRIDE)]
        return sum(won(i, j) for i, j in pixels)

    pairs = jnp.stack([jnp.stack([phase(a, b) for b in (0, 1)], axis=3) for a in (0, 1)], axis=2)
    batch, rows, _, columns, _, channels = pairs.shape
    padded = pairs.reshape(batch, STRIDE * rows, STRIDE * columns, channels)
    return (padded[:, 1 : 1 + height, 1 : 1 + width],)


max_pool.defvjp(_forward, _backward)
