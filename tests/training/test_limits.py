"""Numbers of a config: those that ship pass, absurd ones are one line that names the field."""

import pytest

from configs import correlation, descriptor, pairs
from jaxreloc import config_flag
from jaxreloc.training import limits
from jaxreloc.usage import UsageError

MODULES = {"pairs": pairs, "correlation": correlation, "descriptor": descriptor}


@pytest.mark.parametrize(
    "name, variant", [(name, v) for name, module in MODULES.items() for v in module.VARIANTS]
)
def test_configs_that_ship_pass(name, variant):
    limits.check(MODULES[name].get_config(variant))


@pytest.mark.parametrize(
    "override",
    [
        *("log_every=0", "validate_every=-1", "checkpoint_every=0", "num_steps=0"),
        *("batch_size=0", f"batch_size=1{'0' * 400}", "accumulation=0", "seed=-1"),
        *("data.num_pairs=0", "data.num_pairs=1000000000000", "data.crop=0", "data.jitter=nan"),
        *("data.short_side=9223372036854775808", "data.num_workers=-1", "loss.beta=inf"),
        *("optimizer.learning_rate=nan", "optimizer.b1=1.0", "optimizer.decay_at=(0,)"),
        *("optimizer.decay_at=('a',)", "optimizer.max_gradient_norm=-1.0"),
    ],
)
def test_absurd_numbers_are_named(override):
    config = config_flag.load_config(f"{pairs.__file__}:quick", [f"--config.{override}"])
    with pytest.raises(UsageError, match=rf"config\.{override.partition('=')[0]}: .* from "):
        limits.check(config)


@pytest.mark.parametrize(
    "override, message",
    [
        ("data.image_sizes=(384,512)", "give 2 numbers each"),
        ("data.image_sizes=()", "give 2 numbers each"),
        ("data.image_sizes=((384,512,3),)", "give 2 numbers each"),
        ("data.image_sizes=((384,0),)", "0 is no number from 32"),
        ("data.image_size=(384,)", "give 2 numbers"),
        ("data.train_splits=(1,)", "give names"),
        ("optimizer.frozen=(1,2)", "give names"),
    ],
)
def test_sequences_are_looked_into(override, message):
    config = config_flag.load_config(f"{descriptor.__file__}:quick", [f"--config.{override}"])
    with pytest.raises(UsageError, match=rf"config\.{override.partition('=')[0]}: .*{message}"):
        limits.check(config)
