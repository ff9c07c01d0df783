"""What a query is asked again, after it was located as given, and which answer is kept."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxreloc.localization.clock import StageClock, added
from jaxreloc.localization.quarter_turns import (
    MIN_CONFIDENCE,
    QUARTER_TURNS,
    VOTERS,
    turns_to_database,
)
from jaxreloc.localization.query_state import Localization, Query


def turns_to_try(
    found: Localization, world_from_db: Float[np.ndarray, "M 4 4"], *, rolled: bool
) -> Sequence[int]:
    """The quarter turns of a picture that are worth a look.

    Args:
      found: the answer to the picture as given.
      world_from_db: of the map.
      rolled: an answer that is rolled against the map is worth one.
    """
    if found.refused:
        return QUARTER_TURNS
    if not (found.success and rolled):
        return ()
    turns = turns_to_database(
        found.world_from_query, world_from_db[found.neighbors[found.rotation_inliers]]
    )
    return (turns,) if turns else ()


def likeliest(views: Sequence[Query]) -> tuple[Sequence[Query], Sequence[Query]]:
    """The view of which the map shows most, and the others; all, where that is not known."""
    if any(query.similarity is None for query in views):
        return views, ()
    order = sorted(views, key=lambda query: -np.sort(query.similarity)[-VOTERS:].sum())
    return order[:1], order[1:]


def best_of_turns(
    found: Localization, turned: Sequence[Localization], others: Sequence[Query]
) -> Localization:
    """The answer to a turned picture, if one is better; all tries' time.

    Args:
      found: the answer to the picture as given.
      others: what was turned and retrieved, but not located.
    """
    needed = MIN_CONFIDENCE if found.refused else found.confidence
    answered = [x for x in turned if x.success and x.confidence > needed]
    best = max(answered, key=lambda x: x.confidence, default=found)
    spent = [x.stage_ms for x in (found, *turned)] + [x.clock.stage_ms for x in others]
    return dataclasses.replace(best, stage_ms=added(spent))


def to_match_in_context(found: Localization, views: Sequence[Query]) -> Query:
    """The view that was answered, or else that the map shows most of; its retrieval is timed."""
    answered = [query for query in views if query.view.turn_deg == found.turn_deg]
    chosen = (likeliest(views)[0] if found.refused else answered)[0]
    return dataclasses.replace(chosen, clock=StageClock())


def best_in_context(
    found: Localization, again: Localization, *, judged_as_refused: bool
) -> Localization:
    """The answer in context, if it is more confident; the time of both.

    Args:
      judged_as_refused: turned pictures, too, have their share in what judges `again`.
    """
    surest = found.confidence
    if found.refused:
        surest = MIN_CONFIDENCE if again.turn_deg and not judged_as_refused else 0.0
    better = again.success and again.confidence > surest
    spent = added([found.stage_ms, again.stage_ms])
    return dataclasses.replace(again if better else found, stage_ms=spent)
