"""The methods by name, and which options each of them takes."""

from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.methods import pair_fusion
from jaxreloc.localization.methods.all_matches_method import MODES, AllMatches
from jaxreloc.localization.methods.method import Method
from jaxreloc.localization.methods.pair_fusion import PairFusion
from jaxreloc.localization.networks.matcher import Matcher
from jaxreloc.usage import UsageError, check_choice

METHODS = ("all_matches", "robust", "paper", "median")


def chosen_method(
    method: str | None, mode: str | None, min_baseline: float | None, *, matches: bool
) -> str:
    """The name of the method that is asked for, or else of that which suits the network.

    Args:
      matches: whether the network is a `Matcher`.

    Raises:
      UsageError: a name is unknown, or the method has no use for the mode or the baseline.
    """
    known = METHODS if matches else METHODS[1:]
    name = method or known[0]
    check_choice("method", name, known)
    check_choice("mode", mode or "default", MODES)
    if name == "all_matches" and min_baseline is not None:
        raise UsageError(
            "min_baseline is for the methods robust, paper and median, not for all_matches; leave "
            "it out, or choose one of these"
        )
    if name != "all_matches" and mode is not None:
        raise UsageError(f"mode is for the method all_matches, not for {name}; leave it out")
    return name


def method_for(
    scene_map: SceneMap,
    method: str | None,
    *,
    mode: str | None,
    num_neighbors: int | None,
    min_baseline: float | None,
) -> Method:
    """The method that is asked for, on a map; the arguments and errors are those of `Localizer`."""
    matches = isinstance(scene_map.network, Matcher)
    name = chosen_method(method, mode, min_baseline, matches=matches)
    if name == "all_matches":
        return AllMatches(scene_map, MODES[mode or "default"].of_neighbors(num_neighbors))
    return PairFusion(
        scene_map,
        name,
        num_neighbors=num_neighbors or pair_fusion.NUM_NEIGHBORS,
        min_baseline=min_baseline,
    )
