"""Camera relocalization by relative poses to retrieved images, in scenes never trained on.

    import jaxreloc

    localizer = jaxreloc.Localizer(jaxreloc.SceneMap.open("MAP"))
    found = localizer(image)  # uint8 [h, w, 3], RGB
    print(found.success, found.world_from_query, found.confidence)

The names in `__all__` are the public interface. Each is imported on first use, so that
`import jaxreloc` does not import JAX.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from jaxreloc.geometry.fusion import Reliability, fuse
    from jaxreloc.geometry.relative_pose import estimate_relative_pose
    from jaxreloc.localization.localizer import Localization, Localizer
    from jaxreloc.localization.map.scene_map import SceneMap
    from jaxreloc.localization.networks.pretrained_network import pretrained_network
    from jaxreloc.localization.networks.regression_network import (
        load_inference_network as load_network,
    )

__version__ = "0.1.0"
__all__ = [
    "Localization",
    "Localizer",
    "Reliability",
    "SceneMap",
    "estimate_relative_pose",
    "fuse",
    "load_network",
    "pretrained_network",
]

# The module of each public name, and its name there.
_HOMES = {
    "Localization": ("localization.localizer", "Localization"),
    "Localizer": ("localization.localizer", "Localizer"),
    "Reliability": ("geometry.fusion", "Reliability"),
    "SceneMap": ("localization.map.scene_map", "SceneMap"),
    "estimate_relative_pose": ("geometry.relative_pose", "estimate_relative_pose"),
    "fuse": ("geometry.fusion", "fuse"),
    "load_network": ("localization.networks.regression_network", "load_inference_network"),
    "pretrained_network": ("localization.networks.pretrained_network", "pretrained_network"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, own_name = _HOMES[name]
    found = getattr(importlib.import_module(f"{__name__}.{module}"), own_name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
