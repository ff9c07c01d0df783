"""Every task that a config can name is a `Task`, and so are the parts that they give a run."""

import numpy as np
import pytest

from configs import context, correlation, descriptor, pairs
from jaxreloc.data.loader import PairLoader
from jaxreloc.training.inputs.cells.cell_inputs import CellLoader
from jaxreloc.training.inputs.depth_inputs import TurnLoader
from jaxreloc.training.inputs.match_loader import MatchLoader
from jaxreloc.training.inputs.matched_inputs import MatchedSet
from jaxreloc.training.inputs.pair_inputs import PairSet
from jaxreloc.training.inputs.views.view_inputs import ViewLoader
from jaxreloc.training.loop import TASKS
from jaxreloc.training.tasks.context_task import ContextResult
from jaxreloc.training.tasks.descriptor_task import DescriptorResult
from jaxreloc.training.tasks.pose_task import PoseResult
from jaxreloc.training.tasks.task import Examples, Loader, Result, Task
from tests.conformance import assert_conforms
from tests.training.tasks.test_toy_task import LineResult, LineTask, Numbers

CONFIGS = {
    "pose": pairs.get_config(),
    "head": pairs.get_config("seven"),
    "matches": correlation.get_config(),
    "descriptors": descriptor.get_config(),
    "context": context.get_config(),
}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_one(name):
    config = CONFIGS[name].copy_and_resolve_references()
    assert config.task == name
    task = TASKS[name].of_config(config)
    assert_conforms(task, Task)
    assert isinstance(task.loss.init(), dict) and task.loss.part_names
    assert all(isinstance(option, str) for option in task.compiler_options())


def test_the_toy_task_is_one():
    assert_conforms(LineTask(), Task)
    assert_conforms(LineResult(0.5), Result)
    assert_conforms(Numbers(np.zeros(8), True), Examples)
    assert_conforms(Numbers(np.zeros(8), True), Loader)


RESULTS = [
    PoseResult(0.5, 0.25, 2.0),
    DescriptorResult(0.5, 0.75),
    ContextResult(0.5, 0.75, 0.5, 0.25),
]


@pytest.mark.parametrize("result", RESULTS, ids=lambda x: type(x).__name__)
def test_every_result_is_one(result):
    """What selects the best network is a number among its figures, all of which a line says."""
    assert_conforms(result, Result)
    figures = result.figures()
    assert figures["loss"] == 0.5 and figures[result.selected_by] in (0.5, 0.25)
    assert "\n" not in str(result) and "0.5" in str(result)


@pytest.mark.parametrize("loader", [PairLoader, TurnLoader, MatchLoader, CellLoader, ViewLoader])
def test_every_loader_is_one(loader):
    assert_conforms(object.__new__(loader), Loader)


@pytest.mark.parametrize("examples", [PairSet, MatchedSet])
def test_all_examples_are_some(examples):
    assert_conforms(examples([], [], object.__new__(PairLoader)), Examples)
