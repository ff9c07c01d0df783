"""Compiled functions are kept on disk, so that a script starts fast from its second run on."""

import pathlib

import jax

from jaxreloc.compilation.kept_programs import keep_programs

DEFAULT_FOLDER = pathlib.Path("~/.cache/jaxreloc/compiled")


def use_compilation_cache() -> None:
    """Keeps them in DEFAULT_FOLDER unless JAX_COMPILATION_CACHE_DIR names another folder.

    JAX would keep only what took a second to compile; here, many small functions take most of the
    time before a first answer.
    """
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(DEFAULT_FOLDER.expanduser()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    keep_programs(pathlib.Path(jax.config.jax_compilation_cache_dir))
