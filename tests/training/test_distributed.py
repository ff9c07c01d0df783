"""Which processes a run has, and whether the batch divides over their devices."""

import jax
import pytest

from jaxreloc.training import distributed
from jaxreloc.usage import UsageError


@pytest.fixture
def initialized(monkeypatch):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args: calls.append(args))
    return calls


def test_flags_are_handed_on(initialized):
    distributed.initialize("host:1", 2, 0, cluster=False)
    distributed.initialize(None, None, None, cluster=True)
    assert initialized == [("host:1", 2, 0), ()]


def test_no_flags_make_one_process(initialized):
    distributed.initialize(None, None, None, cluster=False)
    assert initialized == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("host:1", 2, None, False), "belong together"),
        ((None, None, 1, False), "belong together"),
        (("host:1", 2, 2, False), "not in 0..1"),
        (("host:1", 2, 0, True), "exclude each other"),
    ],
)
def test_flags_that_do_not_fit(arguments, message, initialized):
    *three, cluster = arguments
    with pytest.raises(UsageError, match=message):
        distributed.initialize(*three, cluster=cluster)
    assert initialized == []


def test_no_cluster_is_said():
    with pytest.raises(UsageError, match="--cluster: this is no SLURM"):
        distributed.initialize(None, None, None, cluster=True)


def test_the_batch_must_divide(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    distributed.check_batch(24, 3)
    with pytest.raises(UsageError, match="batch_size 20 .* 4 devices x accumulation 3.* 12"):
        distributed.check_batch(20, 3)
