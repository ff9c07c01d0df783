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
    from jaxreloc.localization.localizer import Localizer
    from jaxreloc.localization.map.scene_map import SceneMap
    from jaxreloc.localization.networks.loading import load_network, pretrained_network
    from jaxreloc.localization.query_state import Localization
    from jaxreloc.serving.client import Client

__version__ = "0.1.0"
__all__ = [
    "Client",
    "Localization",
    "Localizer",
    "Reliability",
    "SceneMap",
    "estimate_relative_pose",
    "fuse",
    "load_network",
    "pretrained_network",
]

# The module of each public name.
_HOMES = {
    "Client": "serving.client",
    "Localization": "localization.query_state",
    "Localizer": "localization.localizer",
    "Reliability": "geometry.fusion",
    "SceneMap": "localization.map.scene_map",
    "estimate_relative_pose": "geometry.relative_pose",
    "fuse": "geometry.fusion",
    "load_network": "localization.networks.loading",
    "pretrained_network": "localization.networks.loading",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
