"""Training a network on pairs, from the first step or from wherever a run was cut off."""

import os
import pathlib
import time
from collections.abc import Iterator

import jax
import ml_collections
import numpy as np
from flax import jax_utils

from jaxreloc.training import (
    distributed,
    limits,
    optimizer,
    step,
)
from jaxreloc.training.checkpoints import Checkpoints
from jaxreloc.training.inputs.pair_inputs import shard
from jaxreloc.training.monitoring import record
from jaxreloc.training.monitoring.finite import FiniteWatch
from jaxreloc.training.monitoring.progress import Progress
from jaxreloc.training.monitoring.summaries import Summaries
from jaxreloc.training.monitoring.validation import validate
from jaxreloc.training.state import TrainState, create_state, from_state_dict
from jaxreloc.training.stopping import StopRequest
from jaxreloc.training.tasks.context_task import ContextTask
from jaxreloc.training.tasks.descriptor_task import DescriptorTask
from jaxreloc.training.tasks.head_task import HeadTask
from jaxreloc.training.tasks.match_task import MatchTask
from jaxreloc.training.tasks.pose_task import PoseTask
from jaxreloc.training.tasks.task import Task
from jaxreloc.usage import UsageError, check_choice

PREFETCHED_BATCHES = 2
TASKS = {
    "pose": PoseTask,
    "head": HeadTask,
    "matches": MatchTask,
    "descriptors": DescriptorTask,
    "context": ContextTask,
}


def train_and_evaluate(
    config: ml_collections.ConfigDict, workdir: str | os.PathLike, task: Task | None = None
) -> dict[str, float]:
    """Trains as `config` says, from the newest checkpoint in `workdir` if it has one.

    Leaves there `last/` and `best/` (the networks of the last validation and of the one with the
    least of the task's `selected_by`), `checkpoints/`,
    `tensorboard/`, `config.json` and `environment.json`. SIGTERM and SIGINT end it early,
    saved; the same call resumes it.

    Args:
      task: what is trained; None takes the one that `config.task` names, of TASKS.

    Returns:
      The best validation: `step` and the figures of the task's `Result`; empty where none has been
      made yet.

    Raises:
      UsageError: the config, the data or the workdir is wrong, or the loss is no longer finite.
    """
    limits.check(config)
    if task is None:
        check_choice("config.task", config.task, TASKS)
        task = TASKS[config.task].of_config(config)
    with StopRequest() as stop:
        run = _Run(config, pathlib.Path(workdir).absolute(), task)
        try:
            while run.number < config.num_steps and not stop.poll():
                run.step()
                if _is_due(run.number, config.log_every) or run.number & (run.number - 1) == 0:
                    run.report()
                if _is_due(run.number, config.validate_every) or run.is_complete:
                    run.validate()
                if _is_due(run.number, config.checkpoint_every):
                    run.save()
            run.finish(stop.name)
        finally:
            run.close()
    return run.best


def _is_due(number: int, every: int) -> bool:
    return number % every == 0


class _Run:
    """A run between two steps: everything that `train_and_evaluate` acts on."""

    def __init__(self, config: ml_collections.ConfigDict, workdir: pathlib.Path, task: Task):
        distributed.check_batch(config.batch_size, config.accumulation)
        self._config, self._workdir, self._task = config, workdir, task
        self._is_first = jax.process_index() == 0
        if self._is_first:
            record.write_environment(workdir)
        self._progress = Progress(config.num_steps, config.batch_size, shown=self._is_first)

        self._train, self._validation = task.load(config, self._progress.say)
        self._progress.say(
            f"{len(self._train.pairs)} training pairs of {len(self._train.scenes)} scenes, "
            f"{len(self._validation.pairs)} validation pairs of {len(self._validation.scenes)}"
        )

        transformation, self._schedule = optimizer.build_optimizer(
            config.optimizer, config.num_steps
        )
        self._train_step = step.make_train_step(
            task, transformation, accumulation=config.accumulation
        )
        self._validation_step = step.make_validation_step(task)

        variables = task.first_variables(config)
        state = create_state(variables, task.loss, transformation)
        self._checkpoints = Checkpoints(workdir / "checkpoints", self._progress.say)
        self.best: dict[str, float] = {}
        try:
            state = self._resumed(state)
            if self._is_first:
                record.write_config(workdir, config)
        except BaseException:
            self._checkpoints.close()  # it keeps others out
            raise
        self.number = int(state.step)  # of the last step done
        self._state = jax_utils.replicate(state, axis_name=step.AXIS)

        self._batches = self._device_batches()
        self._waited = 0.0  # seconds for data since the last report
        share = f"-{jax.process_index()}" if jax.process_count() > 1 else ""
        self._watch = FiniteWatch(
            self._train, workdir / f"non_finite_batch{share}.txt", self._checkpoints.newest
        )
        self._summaries = Summaries(workdir / "tensorboard", self.number, self._progress.say)
        self._summaries.text(self.number, "config", f"```\n{config}\n```")
        parameters = sum(x.size for x in jax.tree.leaves(variables["params"]))
        self._progress.say(
            f"{parameters / 1e6:.3g} M parameters on {jax.device_count()} "
            f"{jax.devices()[0].device_kind} device(s); the first step compiles"
        )
        self._progress.start(self.number)
        self._reported_at = time.perf_counter()

    @property
    def is_complete(self) -> bool:
        return self.number >= self._config.num_steps

    def step(self) -> None:
        """One update of the parameters."""
        start = time.perf_counter()
        batch = next(self._batches)
        self._waited += time.perf_counter() - start
        self._state, self._metrics = self._train_step(self._state, batch)
        self.number += 1
        self._progress.advance()
        self._watch.follow(self.number, self._metrics, batch["pair_index"])

    def report(self) -> None:
        """Shows and writes the figures of the last step."""
        self._watch.check()
        figures = jax.tree.map(float, jax_utils.unreplicate(self._metrics))
        figures["learning_rate"] = float(self._schedule(self.number - 1))
        figures["pairs_per_second"] = self._progress.report(self.number, figures["loss"])
        now = time.perf_counter()
        figures["data_wait_share"] = self._waited / (now - self._reported_at)
        self._reported_at, self._waited = now, 0.0
        self._summaries.scalars(self.number, {f"train/{k}": v for k, v in figures.items()})

    def validate(self) -> None:
        """Measures the errors on the validation pairs and keeps the network if it is the best."""
        self._watch.check()
        result = validate(self._task, self._validation_step, self._state, self._validation)
        figures = result.figures()
        self._progress.say(f"validation at step {self.number}: {result}")
        self._summaries.scalars(self.number, {f"validation/{k}": v for k, v in figures.items()})
        if result.pictures is not None:
            self._summaries.image(self.number, "validation/epipolar_lines", result.pictures)
        folders = ["last"]
        if not self.best or figures[result.selected_by] < self.best[result.selected_by]:
            self.best = {"step": self.number} | figures
            folders.append("best")
        if self._is_first:
            self._keep_network(folders)
        self._progress.start(self.number)
        self._reported_at, self._waited = time.perf_counter(), 0.0

    def _keep_network(self, folders: list[str]) -> None:
        variables = self._host_state().network_variables()
        try:
            for folder in folders:
                self._task.save(self._workdir / folder, self._config, variables)
        except UsageError as error:  # a full disk costs this network, not the run
            self._progress.say(f"the network of step {self.number} was NOT saved: {error}")

    def save(self) -> None:
        """Starts writing a checkpoint of the last step, unless there is one."""
        self._watch.check()
        state = self._host_state()
        self._checkpoints.save(
            state,
            {
                "data": {"next_step": self.number, "fingerprint": self._train.fingerprint()},
                "config": record.plain(self._config),
                "code_version": record.code_version(),
                "best": self.best,
            },
        )

    def finish(self, signal_name: str | None) -> None:
        """Sees the last checkpoint through and says where everything is.

        Raises:
          UsageError: the last checkpoint could not be written.
        """
        if self.is_complete and not self.best:  # resumed beyond the last step
            self.validate()
        if not self._checkpoints.has(self.number):
            self.save()
        if not self._checkpoints.wait():
            raise UsageError(
                f"{self._workdir}: step {self.number} is not saved; make room or choose another "
                "folder, then run the same command again to resume from the last checkpoint"
            )
        if not self.is_complete:
            self._progress.say(
                f"stopped by {signal_name or 'another process'} at step {self.number}, saved in "
                f"{self._checkpoints.newest()}; run the same command again to resume"
            )
        else:
            self._progress.say(
                f"step {self.number} of {self.number} is done; the best network, of step "
                f"{self.best['step']}, is in {self._workdir / 'best'}"
            )

    def close(self) -> None:
        self._progress.close()
        self._summaries.close()
        self._checkpoints.close()

    def _host_state(self) -> TrainState:
        """One replica, copied: the next step reuses the memory of this one."""
        return jax.tree.map(np.array, jax_utils.unreplicate(self._state))

    def _device_batches(self) -> Iterator[dict[str, jax.Array]]:
        batches = map(shard, self._train.loader.batches(self.number))
        return jax_utils.prefetch_to_device(batches, PREFETCHED_BATCHES, axis_name=step.AXIS)

    def _resumed(self, state: TrainState) -> TrainState:
        """The state of the newest checkpoint, else `state`."""
        restored = self._checkpoints.restore()
        if restored is None:
            return state
        source, saved = self._checkpoints.newest(), restored.record
        record.check_same_config(saved["config"], self._config, source)
        if saved["data"]["fingerprint"] != self._train.fingerprint():
            raise UsageError(
                f"{source} is of a run on other data (frames, pairs or poses have changed); give "
                "the same data or another --workdir"
            )
        if saved["code_version"] != record.code_version():
            self._progress.say(
                f"note: the code has changed since {source} ({saved['code_version']} there, "
                f"{record.code_version()} now)"
            )
        try:
            state = from_state_dict(state, restored.state)
        except ValueError as error:
            raise UsageError(
                f"{source} does not fit this code's network or optimizer ({error}); resume it with "
                "the code that wrote it, or give another --workdir"
            ) from error
        self.best = saved["best"]
        self._progress.say(f"resuming from {source}")
        return state
