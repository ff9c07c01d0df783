"""Why photographs have no pose, and what to photograph again."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jaxreloc.capture.sfm.mapping import Pair

FEW_FEATURES = 300
BLURRED = 0.4  # times the median sharpness
STRONG = 30  # matches that agree, of a pair that holds


@dataclasses.dataclass(frozen=True)
class Unregistered:
    """A photograph without a pose."""

    name: str
    reason: str
    advice: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}; {self.advice}"


def explain(
    registered: Sequence[str],
    others: Sequence[Sequence[str]],
    num_features: Mapping[str, int],
    pairs: Sequence[Pair],
    sharp: Mapping[str, float],
) -> list[Unregistered]:
    """What is to be said of each photograph without a pose.

    Args:
      registered: those with a pose in the map.
      others: groups that hang together, but not with the map.
      num_features: of all photographs.
      pairs: those that show the same, the surest first.
      sharp: the sharpness of all photographs, or of none.
    """
    inside = set(registered)
    typical = float(np.median(list(sharp.values()))) if sharp else 0.0
    group_of = {name: group for group in others for name in group if name not in inside}
    partners = collections.defaultdict(list)
    for pair in pairs:
        partners[pair.a].append((pair.b, pair.num_inliers))
        partners[pair.b].append((pair.a, pair.num_inliers))
    found = []
    for name in num_features:
        if name in inside:
            continue
        with_map = [(other, count) for other, count in partners[name] if other in inside]
        if num_features[name] < FEW_FEATURES:
            reason = f"too few features ({num_features[name]})"
            advice = "photograph something with more detail, or in more light"
        elif sharp and sharp[name] < BLURRED * typical:
            reason = f"blurred ({sharp[name] / typical:.0%} of the sharpness of the others)"
            advice = "take it again with a steady hand"
        elif name in group_of and len(group_of[name]) > 1:
            reason = f"one of {len(group_of[name])} that hang together, but not with the map"
            advice = f"photograph the way from there to {_nearest(with_map, registered)}"
        elif not with_map:
            reason = "no overlap with the others"
            advice = "photograph the way from there to the others, in small steps"
        else:
            best, count = with_map[0]
            reason = f"thin overlap ({count} matches with {best}, the most similar)"
            advice = f"photograph between it and {best}"
        found.append(Unregistered(name, reason, advice))
    return found


def weak_links(registered: Sequence[str], pairs: Sequence[Pair]) -> list[str]:
    """Registered photographs that are connected to fewer than two others."""
    inside, held = set(registered), collections.Counter()
    for pair in pairs:
        if pair.num_inliers >= STRONG and {pair.a, pair.b} <= inside:
            held.update((pair.a, pair.b))
    return [name for name in registered if held[name] < 2]


def _nearest(with_map: Sequence[tuple[str, int]], registered: Sequence[str]) -> str:
    return with_map[0][0] if with_map else registered[0]
