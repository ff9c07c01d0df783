"""The trained network that comes with the package: `docs/correlation.md` says what it was made of.

Its file has the head alone. The backbone's weights are those of its pip package, as in training.
"""

import json
import pathlib

import numpy as np
import safetensors
import safetensors.numpy

from jaxreloc import files
from jaxreloc.models import variables
from jaxreloc.models.imagenet_matcher import MODEL, imagenet_matcher
from jaxreloc.models.saved_network import LoadedNetwork
from jaxreloc.usage import UsageError

WEIGHTS = pathlib.Path(__file__).parent / "weights" / "correlation_head.safetensors"
_HEAD = "params/head/"


def shipped_matcher(image_size: tuple[int, int]) -> LoadedNetwork:
    """EfficientNet-lite0 with ImageNet's weights under the trained correlation head.

    Args:
      image_size: height and width of the canvas that whole images are fitted into.

    Raises:
      ValueError: a side is no multiple of 32.
      UsageError: the weights are not there, or of another version of the network.
    """
    untrained = imagenet_matcher(image_size)
    named = variables.flatten(untrained.variables)
    expected = {name: x for name, x in named.items() if name.startswith(_HEAD)}
    try:
        with safetensors.safe_open(WEIGHTS, framework="numpy") as file:
            head = {name: file.get_tensor(name) for name in file.keys()}
            config = json.loads((file.metadata() or {})["config"])
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        message = f"{WEIGHTS}: cannot be read ({error}); check the repository out again"
        raise UsageError(message) from error
    variables.check_match(expected, head, str(WEIGHTS), "check the repository out again")
    trained = variables.unflatten(named | {k: x.astype(np.float32) for k, x in head.items()})
    return LoadedNetwork(untrained.network, trained, untrained.config | config)


def write_head(loaded: LoadedNetwork, path: pathlib.Path = WEIGHTS) -> None:
    """Writes the head of a trained network for `shipped_matcher`, in half precision.

    Raises:
      UsageError: its backbone is another, or the file cannot be written.
    """
    if loaded.config["model"]["backbone"] != MODEL["backbone"]:
        raise UsageError(f"the network's backbone is not {MODEL['backbone']}; train that one")
    head = {
        name: np.asarray(x, np.float16)
        for name, x in variables.flatten(loaded.variables).items()
        if name.startswith(_HEAD)
    }
    config = {"estimator": loaded.config.get("estimator", "matches")}
    with files.replacing(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save(head, {"config": json.dumps(config)}))
