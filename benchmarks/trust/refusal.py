"""Queries of another room: how many are refused, and how many of one's own are kept.

  python -m benchmarks.trust.refusal --library=FOLDER [--rooms=6] [--cache=FOLDER] [--images=PHOTOS]
  python -m benchmarks.trust.refusal --library=FOLDER --split=validation --rooms=7 --fit

Every query of the held-out rooms is related to its neighbours in its own room and in another. An
answer is good if it is right to 50 cm and 10 deg, and wrong if it is off by a metre or 20 deg. For
thresholds of the confidence the curve says what share of the strangers is refused, of the good
answers kept, and of a room's own queries answered wrongly; the line marked * is the threshold in
use. Above it stands how well the confidence, and others beside it, tell good
from wrong answers (area under the curve: the probability that a good answer has the higher one).

With --images, a folder of posed photographs, the same of these: every fifth is a query, the others
are its map, and a rendered room is the other one. --fit prints the confidence model for
`confidence.CONFIDENCE` that these queries give at three sizes; give it rooms that are not tested
on.
"""

import os
import pathlib

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
import tabulate
from absl import app, flags

from benchmarks.accuracy import held_out
from benchmarks.accuracy.held_out import WRONG_DEG, WRONG_M, Queries, fused_errors, relate_all, se3
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.formats.query_split import split_frames
from jaxreloc.localization.methods.pair_fusion import (
    evidence,
    fuse_relations,
    query_confidence,
)
from jaxreloc.localization.networks.confidence import CONFIDENCE, ConfidenceModel
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.localization.networks.match_relations import ESTIMATORS
from jaxreloc.localization.networks.relations import PairRelations
from jaxreloc.models.weights.network_weights import shipped_matcher
from jaxreloc.models.weights.saved_network import LoadedNetwork
from jaxreloc.training.inputs.match_making import encode_scene
from tfds_builders.rooms.generation import render_room
from tfds_builders.rooms.settings import FURNISHED_LARGE

_LIBRARY = flags.DEFINE_string("library", None, "Prepared furniture library (synthetic_rooms).")
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Of the rooms.")
_ROOMS = flags.DEFINE_integer("rooms", 6, "How many rooms.")
_FIT = flags.DEFINE_bool("fit", False, "Print a confidence model fitted to the rooms' queries.")
_CACHE = flags.DEFINE_string("cache", None, "Folder where the rooms' pictures are kept.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of posed photographs.")
_ESTIMATOR = flags.DEFINE_string(
    "estimator", None, "Instead of the one in use, or of all with --fit."
)

CANVAS = (384, 512)
FITTED_CANVASES = ((192, 256), (288, 384), CANVAS)
GOOD_M, GOOD_DEG = 0.5, 10.0
EVERY = 5
KEPT = 0.95  # of the good answers, by the threshold that is fitted
RIDGE = 1.0  # of the fit, on weights of standardised evidence


def photographs_beside_a_room(folder: str, library: str) -> Queries:
    """Photographs against their own map and against a room, and that room's against theirs."""
    frames = read_posed_images(folder)
    network = held_out.matcher(CANVAS)
    room = render_room(dataclasses.replace(FURNISHED_LARGE, library=library), "test", 0)
    parts = [split_frames(frames, part, query_every=EVERY) for part in ("database", "query")]
    database, query, room_database, room_query = (
        (encode_scene(part, network), part) for part in (*parts, room.database, room.query)
    )
    return held_out.concatenate(
        [
            held_out.match_queries(network, *database, *query, own=True),
            held_out.match_queries(network, *room_database, *query, own=False),
            held_out.match_queries(network, *database, *room_query, own=False),
        ]
    )


@dataclasses.dataclass(frozen=True)
class Judged:
    """Answers to Q queries, none refused but by the fusion, and what they are worth."""

    relations: PairRelations
    evidence: np.ndarray  # [Q, 2]
    agreement: np.ndarray  # [Q]: share of the neighbours
    answered: np.ndarray  # [Q]
    own: np.ndarray  # [Q]
    good: np.ndarray  # [Q]
    wrong: np.ndarray  # [Q]: of the own ones

    def confidence(self, model: ConfidenceModel) -> np.ndarray:
        return np.where(self.answered, model(self.evidence), 0.0)


def judge(queries: Queries, relations: PairRelations) -> Judged:
    unrefused = relations.replace(confidence_model=None)
    world_from_db, config = se3(queries.world_from_db), MatchNetwork.fusion_config
    fused, agreement = fuse_relations(world_from_db, unrefused, config=config)
    position, rotation = fused_errors(queries, unrefused)
    own, answered = queries.is_own, np.asarray(fused.success)
    return Judged(
        relations,
        np.asarray(evidence(relations, fused)),
        np.asarray(agreement),
        answered,
        own,
        own & (position < GOOD_M) & (rotation < GOOD_DEG),
        own & answered & ((position > WRONG_M) | (rotation > WRONG_DEG)),
    )


def together(parts: list[Judged]) -> Judged:
    rows = [[getattr(part, field.name) for part in parts] for field in dataclasses.fields(Judged)]
    return Judged(*(jax.tree.map(lambda *x: np.concatenate(x), *row) for row in rows))


def fit(judged: Judged) -> ConfidenceModel:
    """Logistic regression of good answers among all answers, by Newton's method.

    What is more likely wrong than right is refused, unless that cost more good answers than KEPT
    allows.
    """
    x, y = judged.evidence[judged.answered], judged.good[judged.answered]
    mean, scale = x.mean(axis=0), x.std(axis=0)
    columns = np.column_stack([np.ones(len(x)), (x - mean) / scale])
    ridge = RIDGE * np.diag([0.0] + [1.0] * x.shape[1])
    solution = np.zeros(columns.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-columns @ solution))
        information = columns.T @ (columns * (p * (1 - p))[:, None]) + ridge
        solution += np.linalg.solve(information, columns.T @ (y - p) - ridge @ solution)
    weights = solution[1:] / scale
    bias = float(solution[0] - weights @ mean)
    model = ConfidenceModel(round(bias, 3), tuple(np.round(weights, 3).tolist()), threshold=0.0)
    kept = np.quantile(judged.confidence(model)[judged.good], 1 - KEPT, method="lower")
    return dataclasses.replace(model, threshold=min(0.5, round(float(kept) - 5e-4, 3)))


def discrimination(score: np.ndarray, good: np.ndarray, bad: np.ndarray) -> float:
    """The probability that a good answer has a higher score than a bad one."""
    pairs = score[good][:, None] - score[bad][None]
    return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def curve(judged: Judged, model: ConfidenceModel) -> str:
    """What the scores tell apart, and the table over thresholds of the confidence."""
    own, good, wrong = judged.own, judged.good, judged.wrong
    confidence, stranger = judged.confidence(model), judged.answered & ~own
    scores = {
        "confidence": confidence,
        "best pair (query_confidence)": np.asarray(query_confidence(judged.relations)),
        "share of neighbours that agree": judged.agreement,
        "rotation_std": -judged.evidence[:, 1],
    }
    lines = [f"{own.sum()} own queries, {good.sum()} good, {wrong.sum()} wrong unless refused; "
             f"{(~own).sum()} strangers, {stranger.sum()} answered unless refused"]
    for name, score in scores.items():
        cells = [
            f"good from {kind}: {discrimination(score, good, bad):.3f}"
            for kind, bad in (("wrong", wrong), ("wrong or stranger", wrong | stranger))
            if bad.any()
        ]
        if cells:
            lines.append(f"{name}: {', '.join(cells)}")
    rows = [
        {
            "": "*" if threshold == model.threshold else "",
            "threshold": threshold,
            "strangers refused": np.mean(confidence[~own] <= threshold),
            "good kept": np.mean(confidence[good] > threshold),
            "own answered": np.mean(confidence[own] > threshold),
            "own answered wrongly": np.mean(wrong[own] & (confidence[own] > threshold)),
        }
        for threshold in sorted({model.threshold, 0.0, 0.02, 0.05, *np.arange(0.1, 1.0, 0.1)})
    ]
    table = tabulate.tabulate(rows, headers="keys", tablefmt="github", floatfmt=".3f")
    return "\n".join([*lines, table])


def main(argv: list[str]) -> None:
    del argv
    loaded = shipped_matcher(CANVAS)
    cache = _CACHE.value and pathlib.Path(_CACHE.value)
    rooms = range(_ROOMS.value)
    canvases = FITTED_CANVASES if _FIT.value else (CANVAS,)
    queries = held_out.room_queries(_SPLIT.value, rooms, canvases, _LIBRARY.value, cache)
    photographs = _IMAGES.value and photographs_beside_a_room(_IMAGES.value, _LIBRARY.value)
    for estimator in [_ESTIMATOR.value] if _ESTIMATOR.value else _default_estimators(loaded):
        judged = {c: judge(queries[c], relate_all(loaded, estimator, queries[c])) for c in canvases}
        model = CONFIDENCE[estimator]
        if _FIT.value:
            model = fit(together(list(judged.values())))
            print(f'"{estimator}": {model},')
        for (height, width), one in judged.items():
            where = f"{_ROOMS.value} {_SPLIT.value} rooms at {width}x{height}"
            print(f"{where}, {estimator}: {curve(one, model)}", flush=True)
        if photographs:
            of_photographs = judge(photographs, relate_all(loaded, estimator, photographs))
            print(f"{_IMAGES.value}, {estimator}: {curve(of_photographs, model)}")


def _default_estimators(loaded: LoadedNetwork) -> Sequence[str]:
    """All are fitted; the curve is of the one in use."""
    return ESTIMATORS if _FIT.value else (loaded.config["estimator"],)


if __name__ == "__main__":
    app.run(main)
