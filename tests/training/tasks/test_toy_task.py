"""A task in one file: what `Task` names is all that a run asks of what it trains."""

import dataclasses
import types

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxreloc.localization.networks.loading import READERS, load_network
from jaxreloc.training import train_and_evaluate
from jaxreloc.usage import UsageError
from tests.localization.test_toy_network import BrightnessNetwork, ask_a_map_of
from tests.training import tiny


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Examples y = 10 x - 1, in batches of 8."""

    x: np.ndarray
    endless: bool
    scenes = ["line"]

    @property
    def pairs(self):
        return self.x

    @property
    def loader(self):
        return self

    def batches(self, start_step=0):
        index = np.arange(8)
        while True:
            x = self.x[index]
            yield {"x": x, "y": 10 * x - 1, "mask": np.ones(8, bool), "pair_index": index}
            if not self.endless:
                return

    def fingerprint(self):
        return 0

    def frame_names(self, pair_index):
        return str(self.x[pair_index]), "y"


@dataclasses.dataclass(frozen=True)
class LineResult:
    error: float
    pictures: None = None
    selected_by = "error"

    def figures(self):
        return {"error": self.error}


class LineTask:
    """Fits a line by least squares."""

    loss = types.SimpleNamespace(part_names=(), init=dict)
    compiler_options = staticmethod(dict)

    def load(self, config, say):
        x = np.linspace(-1, 1, 8, dtype=np.float32)
        return Numbers(x, True), Numbers(x + 0.1, False)

    def first_variables(self, config):
        return {"params": {"slope": jnp.zeros(()), "offset": jnp.zeros(())}, "batch_stats": {}}

    def losses(self, params, batch_stats, batch):
        line = params["network"]
        return (line["slope"] * batch["x"] + line["offset"] - batch["y"]) ** 2, {}, batch_stats

    def errors(self, params, batch_stats, batch):
        squared, _, _ = self.losses(params, batch_stats, batch)
        return {"loss": squared, "error": jnp.sqrt(squared)}

    def result(self, measured, examples, first):
        return LineResult(float(np.max(measured["error"])))

    def save(self, folder, config, variables):
        folder.mkdir(exist_ok=True)
        line = {name: np.asarray(x) for name, x in variables["params"].items()}
        safetensors.numpy.save_file(line, folder / "network.safetensors", {"kind": "line"})


def config(**fields):
    small = tiny.config()
    small.num_steps = small.validate_every = small.checkpoint_every = 400
    small.optimizer.learning_rate = 0.1
    small.update(fields)
    return small


def test_a_toy_task_is_trained(tmp_path):
    best = train_and_evaluate(config(), tmp_path, LineTask())
    assert best["step"] == 400 and best["error"] < 0.3
    line = safetensors.numpy.load_file(tmp_path / "best" / "network.safetensors")
    assert line["slope"] == pytest.approx(10, abs=0.3)
    assert line["offset"] == pytest.approx(-1, abs=0.3)
    assert (tmp_path / "last" / "network.safetensors").exists()


def test_a_map_is_made_with_what_it_has_trained(tmp_path, monkeypatch):
    """The one line makes a network of another kind known to whatever reads files."""
    monkeypatch.setitem(READERS, "line", BrightnessNetwork.read)
    train_and_evaluate(config(), tmp_path / "run", LineTask())
    ask_a_map_of(load_network(tmp_path / "run"), tmp_path / "map")


def test_an_unknown_task_is_named(tmp_path):
    line = "unknown config.task 'poze'; known: context, descriptors, head, matches"
    with pytest.raises(UsageError, match=line):
        train_and_evaluate(config(task="poze"), tmp_path)
