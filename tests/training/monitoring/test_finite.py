"""A loss that is not finite stops the run, one step late at most, with names."""

import jax.numpy as jnp
import pytest

from jaxreloc.training.monitoring.finite import FiniteWatch
from jaxreloc.usage import UsageError


class NamedPairs:
    def frame_names(self, index):
        return f"room/{index}a", f"room/{index}b"


def metrics(loss, gradient_norm=1.0):
    """As pmap gives them on two devices."""
    values = {"loss": loss, "gradient_norm": gradient_norm, "loss/rotation": 0.0}
    return {name: jnp.full(2, value) for name, value in values.items()}


@pytest.fixture
def watch(tmp_path):
    return FiniteWatch(NamedPairs(), tmp_path / "bad.txt", lambda: tmp_path / "7")


@pytest.mark.parametrize("bad", [(float("nan"), 1.0), (float("inf"), 1.0), (2.0, float("nan"))])
def test_the_message_has_step_frames_and_last_checkpoint(bad, watch, tmp_path):
    watch.follow(8, metrics(1.0), jnp.arange(6).reshape(2, 3))
    watch.follow(9, metrics(*bad), 10 + jnp.arange(6).reshape(2, 3))
    with pytest.raises(UsageError) as raised:
        watch.follow(10, metrics(1.0), jnp.arange(6).reshape(2, 3))
    message = str(raised.value)
    assert message.startswith("step 9: ") and "\n" not in message
    assert "room/10a room/10b" in message and str(tmp_path / "7") in message
    listed = (tmp_path / "bad.txt").read_text().splitlines()
    assert listed == [f"room/{k}a room/{k}b" for k in range(10, 16)]


def test_check_looks_at_the_last_step_at_once(watch):
    watch.follow(9, metrics(float("nan")), jnp.arange(2))
    with pytest.raises(UsageError, match="step 9"):
        watch.check()


def test_finite_steps_pass(watch, tmp_path):
    for step in range(4):
        watch.follow(step, metrics(1.0), jnp.arange(2))
    watch.check()
    watch.check()
    assert not (tmp_path / "bad.txt").exists()
