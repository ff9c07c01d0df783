"""Convolutions, with the kernel that is fast on the backend in use chosen in this one place."""

import jax
from jaxtyping import Array, Float


def conv2d(
    x: Float[Array, "B H W C"],
    kernel: Float[Array, "k k c D"],
    *,
    strides: int,
    padding: str | int,
    depthwise: bool = False,
) -> Float[Array, "B h w D"]:
    """Cross-correlation of `x` with `kernel`, as `jax.lax.conv_general_dilated` defines it.

    Args:
      strides: of both axes.
      padding: "SAME", or the rows and columns of zeros on each side.
      depthwise: each channel is filtered by itself; `c` is then 1 and `D` equals `C`.
    """
    if isinstance(padding, int):
        padding = ((padding, padding), (padding, padding))
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(strides, strides),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] if depthwise else 1,
    )


def compiler_options() -> dict[str, str]:
    """What to pass as `jax.jit(f, compiler_options=...)` around convolutional code."""
    if jax.default_backend() == "cpu":
        return {"xla_cpu_experimental_ynn_fusion_type": ""}
    return {}
