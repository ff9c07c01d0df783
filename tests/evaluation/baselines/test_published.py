import numpy as np
import pytest

from jaxreloc.evaluation.baselines.published import SEVEN_SCENES
from jaxreloc.formats.readers.seven_scenes import SCENES


@pytest.mark.parametrize("result", SEVEN_SCENES, ids=lambda result: result.method)
def test_rows_are_whole_and_agree_with_their_own_average(result):
    assert len(result.medians) == len(SCENES) and result.reference and result.source
    known = [median for median in result.medians if median is not None]
    assert all(0 < t < 1 and 0 < r < 90 for t, r in known)
    if result.average is not None and len(known) == len(SCENES):
        np.testing.assert_allclose(np.mean(known, axis=0), result.average, atol=0.05)
    if None in result.medians:
        assert result.average is not None


def test_the_papers_own_row():
    (paper,) = [x for x in SEVEN_SCENES if x.method == "the paper (Laskar et al.)"]
    assert paper.median("chess") == (0.13, 6.46) and paper.median("stairs") == (0.27, 11.82)
    assert paper.average == (0.21, 9.30)
