"""Compiled functions end up in the folder that was named, small ones too."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import jax
from jaxreloc.compilation.compilation_cache import use_compilation_cache
use_compilation_cache()
print(jax.jit(lambda x: 2 * x)(21.0))
"""


def test_small_functions_are_kept_in_the_folder_named(tmp_path):
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", PROGRAM]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.stdout == "42.0\n", run.stderr
    assert any((tmp_path / "cache").iterdir())
