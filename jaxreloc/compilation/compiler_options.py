"""What to pass as `jax.jit(f, compiler_options=...)` so that XLA compiles well for CPUs.

On other devices these are empty.
"""

import jax


def wide_vectors() -> dict[str, int]:
    """Around elementwise work on many lanes.

    XLA prefers vectors of 256 bits, which leaves half of AVX-512 unused; CPUs without it take what
    they have.
    """
    return {"xla_cpu_prefer_vector_width": 512} if _on_cpu() else {}


def convolutions() -> dict[str, int | str]:
    """Around convolutions. Matrix products alone are faster without."""
    return wide_vectors() | ({"xla_cpu_experimental_ynn_fusion_type": ""} if _on_cpu() else {})


def many_operations() -> dict[str, bool]:
    """Around hundreds of small operations, where it halves the time to compile.

    XLA would make a module of each fusion, which LLVM then compiles by itself.
    """
    return {"xla_cpu_use_fusion_emitters": False} if _on_cpu() else {}


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"
