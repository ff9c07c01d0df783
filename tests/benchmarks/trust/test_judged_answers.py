"""The fit of the confidence, and the count of errors inside ellipsoids, on planted answers."""

import numpy as np
import pytest

from benchmarks.trust import judged_answers
from benchmarks.trust.judged_answers import FOCAL, OWN, STRANGER, Judged

COUNT = 4000


def planted(rng, deviation=1.0) -> Judged:
    """Own queries with many matches are right, strangers have few; errors of known covariance."""
    kind = rng.choice([OWN, STRANGER, FOCAL], COUNT)
    matches = np.where(kind == STRANGER, rng.normal(2, 0.5, COUNT), rng.normal(6, 0.5, COUNT))
    doubt = np.where(kind == FOCAL, 4.0, 0.0)
    evidence = np.stack([matches, rng.normal(-1, 0.2, COUNT), doubt], axis=1)
    errors = deviation * rng.normal(0, 0.01, (COUNT, 6))
    errors[kind != OWN] += 3.0
    return Judged(
        kind=kind,
        evidence=evidence,
        success=np.ones(COUNT, bool),
        errors=errors,
        covariance=np.tile(1e-4 * np.eye(6), (COUNT, 1, 1)),
    )


def test_the_fitted_model_tells_own_queries_from_others(rng):
    judged = planted(rng)
    found = judged.confidence(judged_answers.fit(judged))
    assert np.mean(found[judged.kind == OWN] > 0.5) > 0.98
    assert np.mean(found[judged.kind == STRANGER] > 0.5) < 0.02
    assert np.mean(found[judged.kind == FOCAL] > 0.5) < 0.02


@pytest.mark.parametrize("deviation", [0.5, 1.0, 2.0])
def test_the_inflation_is_the_variance_of_the_errors(rng, deviation):
    judged = planted(rng, deviation)
    found = judged_answers.inflation(judged, judged_answers.fit(judged))
    np.testing.assert_allclose(found, deviation**2, rtol=0.12)


def test_errors_of_the_stated_covariance_lie_inside_its_ellipsoids(rng):
    judged = planted(rng)
    table = judged_answers.calibration(judged, judged_answers.fit(judged))
    position = next(line for line in table.splitlines() if "position" in line)
    shares = [float(cell) for cell in position.split("|")[2:4]]
    np.testing.assert_allclose(shares, [0.68, 0.95], atol=0.05)
