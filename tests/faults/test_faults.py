"""Some of the fault campaign: no broken file is a traceback, a hang or a wrong answer."""

import pytest

from tests.conftest import SEED
from tests.faults import campaign, processes, scenarios
from tests.faults.targets import FLIPPED_MAP, TARGETS
from tests.faults.worker import FAULTS, Worker

CASES = 100


SLOW = [pytest.param(FLIPPED_MAP, marks=pytest.mark.slow)]  # compiles for minutes


@pytest.mark.parametrize("target", [*(name for name in TARGETS if name != FLIPPED_MAP), *SLOW])
def test_broken_files_are_one_clear_line(target):
    seed = campaign.batch_seed(SEED, target, 0)

    def found(name, broken, outcome):
        assert outcome.kind not in FAULTS, f"{name}: {outcome.kind}\n{outcome.detail}"

    with Worker(target, seed) as worker:
        campaign.run_batch(worker, seed, CASES, found)


@pytest.mark.parametrize("scenario", scenarios.SCENARIOS)
def test_what_is_left_on_the_disk_is_whole(scenario):
    if scenario in scenarios.NEED_MOUNTS and not processes.can_mount():
        pytest.skip("no small file system can be mounted here")
    for case in range(2):
        seed = campaign.batch_seed(SEED, scenario, case)
        outcome = scenarios.run(scenario, seed)
        assert outcome.kind not in FAULTS, f"seed {seed}: {outcome.kind}\n{outcome.detail}"
