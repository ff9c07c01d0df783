"""The file of weights that comes with the package: all of the network but its backbone."""

import json
import pathlib
from typing import Any

import numpy as np
import safetensors

from jaxreloc.usage import UsageError

PATH = pathlib.Path(__file__).parent / "correlation_head.safetensors"


def read() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The variables by name, float32, and the config that is saved with them.

    Raises:
      UsageError: the file is not there or cannot be read.
    """
    try:
        with safetensors.safe_open(PATH, framework="numpy") as file:
            head = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}
            return head, json.loads((file.metadata() or {})["config"])
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        message = f"{PATH}: cannot be read ({error}); check the repository out again"
        raise UsageError(message) from error
