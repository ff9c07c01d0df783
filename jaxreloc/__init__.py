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
    from jaxreloc.localization.network import load_inference_network as load_network
    from jaxreloc.localization.pretrained_network import pretrained_network
    from jaxreloc.localization.scene_map import SceneMap

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
    "Localization": ("jaxreloc.localization.localizer", "Localization"),
    "Localizer": ("jaxreloc.localization.localizer", "Localizer"),
    "Reliability": ("jaxreloc.geometry.fusion", "Reliability"),
    "SceneMap": ("jaxreloc.localization.scene_map", "SceneMap"),
    "estimate_relative_pose": ("jaxreloc.geometry.relative_pose", "estimate_relative_pose"),
    "fuse": ("jaxreloc.geometry.fusion", "fuse"),
    "load_network": ("jaxreloc.localization.network", "load_inference_network"),
    "pretrained_network": ("jaxreloc.localization.pretrained_network", "pretrained_network"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, own_name = _HOMES[name]
    found = getattr(importlib.import_module(module), own_name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
