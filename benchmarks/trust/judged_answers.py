"""Answers beside the truth: how confidence and covariance are fitted, and how they are checked."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tabulate
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from scipy.special import expit
from scipy.stats import chi2

from benchmarks.accuracy.held_out import WRONG_DEG, WRONG_M
from jaxreloc.localization import all_matches
from jaxreloc.localization.networks.confidence import ConfidenceModel
from jaxreloc.localization.query_state import Localization

GOOD_M, GOOD_DEG = 0.5, 10.0
OWN, STRANGER, FOCAL = range(3)
SHARES = (0.68, 0.95)
OF_FOCAL = 2  # of the evidence, that which speaks of the focal length
RIDGE = 0.3  # of the fit, on weights of standardised evidence
THRESHOLDS = (0.0, 0.3, 0.5, 0.7, 0.9)


@dataclasses.dataclass(frozen=True)
class Judged:
    """Q answers, none refused but where there is no pose; leading axis Q.

    `errors` are of (rotation vector in world axes, centre).
    """

    kind: np.ndarray
    evidence: np.ndarray
    success: np.ndarray
    errors: np.ndarray
    covariance: np.ndarray

    @property
    def metres(self) -> np.ndarray:
        return np.linalg.norm(self.errors[:, 3:], axis=1)

    @property
    def degrees(self) -> np.ndarray:
        return np.rad2deg(np.linalg.norm(self.errors[:, :3], axis=1))

    @property
    def good(self) -> np.ndarray:
        right = (self.metres < GOOD_M) & (self.degrees < GOOD_DEG)
        return self.success & (self.kind != STRANGER) & right

    def confidence(self, model: ConfidenceModel) -> np.ndarray:
        return np.where(self.success, np.asarray(model(np.float32(self.evidence))), 0.0)


def gathered(rows: Sequence[tuple[int, Localization, np.ndarray]]) -> Judged:
    """Of kinds, answers and true poses."""
    kinds, found, truth = zip(*rows, strict=True)
    errors = [_error(x.world_from_query, true) for x, true in zip(found, truth, strict=True)]
    return Judged(
        kind=np.array(kinds),
        evidence=np.stack([x.evidence for x in found]),
        success=np.array([x.covariance[3, 3] < np.inf and x.confidence > 0 for x in found]),
        errors=np.stack(errors),
        covariance=np.stack([x.covariance for x in found]),
    )


def _error(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    turn = Rotation.from_matrix(true[:3, :3] @ found[:3, :3].T).as_rotvec()
    return np.concatenate([turn, true[:3, 3] - found[:3, 3]])


def fit(
    judged: Judged,
    weighed: Sequence[int] = (0, 1),
    *,
    doubted: bool = False,
    threshold: float = 0.5,
) -> ConfidenceModel:
    """Logistic regression of good answers among those to own queries and strangers.

    The weight of the focal length is given.

    Args:
      weighed: the evidence that gets a weight besides.
      doubted: some answers were refused for their focal length, so that its evidence counts.
      threshold: of the model.
    """
    used = judged.success & (judged.kind != FOCAL)
    evidence, y = judged.evidence[used].astype(np.float64), judged.good[used]
    x = evidence[:, weighed]
    of_focal = all_matches.FOCAL_WEIGHT * evidence[:, OF_FOCAL] if doubted else 0.0
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-9
    columns = np.column_stack([np.ones(len(x)), (x - mean) / scale])

    def loss(solution: np.ndarray) -> float:
        logit = columns @ solution + of_focal
        return np.sum(np.logaddexp(0, logit) - y * logit) + RIDGE / 2 * np.sum(solution[1:] ** 2)

    def gradient(solution: np.ndarray) -> np.ndarray:
        shrunk = np.concatenate([[0.0], RIDGE * solution[1:]])
        return columns.T @ (expit(columns @ solution + of_focal) - y) + shrunk

    solution = minimize(loss, np.zeros(columns.shape[1]), jac=gradient, method="BFGS").x
    weights = solution[1:] / scale
    bias = float(solution[0] - weights @ mean)
    every = np.zeros(evidence.shape[1])
    every[OF_FOCAL] = all_matches.FOCAL_WEIGHT
    every[list(weighed)] = np.round(weights, 3)
    return ConfidenceModel(round(bias, 3), tuple(every.tolist()), threshold)


def inflation(judged: Judged, model: ConfidenceModel) -> tuple[float, float]:
    """Factors of the variances of rotation and centre, so that 68% of errors lie inside."""
    kept = (judged.kind == OWN) & judged.good & (judged.confidence(model) > model.threshold)
    return tuple(
        float(np.quantile(_squared(judged, kept, part), SHARES[0]) / chi2.ppf(SHARES[0], 3))
        for part in (slice(0, 3), slice(3, 6))
    )


def _squared(judged: Judged, kept: np.ndarray, part: slice) -> np.ndarray:
    """Squared errors in deviations."""
    error, covariance = judged.errors[kept][:, part], judged.covariance[kept][:, part, part]
    return np.einsum("qi,qi->q", error, np.linalg.solve(covariance, error[..., None])[..., 0])


def curve(
    judged: Judged, model: ConfidenceModel, asked: Mapping[int, int] | None = None
) -> str:
    """By threshold, what share of each kind is answered, and how.

    Args:
      asked: how many of each kind there were, if those that are judged are a part of them.
    """

    def share(chosen: np.ndarray, kind: int) -> float:
        of_kind = judged.kind == kind
        return np.sum(chosen & of_kind) / (asked[kind] if asked else np.sum(of_kind))

    confidence = judged.confidence(model)
    wrong = (judged.metres > WRONG_M) | (judged.degrees > WRONG_DEG)
    rows = []
    for threshold in sorted({model.threshold, *THRESHOLDS}):
        answered = confidence > threshold
        row = {
            "": "*" if threshold == model.threshold else "",
            "threshold": threshold,
            "own answered": share(answered, OWN),
            "own good": share(answered & judged.good, OWN),
            "own wrong": share(answered & wrong, OWN),
        }
        for name, kind in (("strangers answered", STRANGER), ("wrong focal, 50 cm off", FOCAL)):
            if np.any(judged.kind == kind):
                off = answered & ((judged.kind == STRANGER) | (judged.metres > GOOD_M))
                row[name] = share(off, kind)
        rows.append(row)
    return tabulate.tabulate(rows, headers="keys", tablefmt="github", floatfmt=".3f")


def calibration(judged: Judged, model: ConfidenceModel) -> str:
    kept = (judged.kind == OWN) & judged.good & (judged.confidence(model) > model.threshold)
    rows = []
    for name, part in (
        ("position", slice(3, 6)),
        ("rotation", slice(0, 3)),
        ("both", slice(0, 6)),
    ):
        squared = _squared(judged, kept, part)
        freedom = part.stop - part.start
        row = {"inside the ellipsoid of": name}
        row |= {f"{x:.0%}": np.mean(squared < chi2.ppf(x, freedom)) for x in SHARES}
        rows.append(row)
    table = tabulate.tabulate(rows, headers="keys", tablefmt="github", floatfmt=".3f")
    return f"{kept.sum()} answers\n{table}"
