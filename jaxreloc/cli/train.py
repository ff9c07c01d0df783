"""`jaxreloc train`: trains a network by a config."""

import dataclasses
from typing import Annotated

import tyro

from jaxreloc.cli.options import Engine
from jaxreloc.cli.parsing import flag
from jaxreloc.usage import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Processes:
    coordinator: Annotated[
        str | None, flag("Address of process 0, if there are several.", "HOST:PORT")
    ] = None
    num_processes: Annotated[int | None, flag("How many processes there are.", "N")] = None
    process_id: Annotated[int | None, flag("Which of them this is, from 0.", "N")] = None
    cluster: Annotated[bool, flag("Ask SLURM, MPI, Kubernetes or TPU for these.")] = False

    def __post_init__(self):
        if self.num_processes is not None and self.num_processes < 1:
            raise UsageError(f"--num_processes={self.num_processes}: give at least 1")


def train(
    config: Annotated[str, flag("Config file, and its variant after a colon.", "FILE")],
    workdir: Annotated[str, flag("Folder of checkpoints, logs and the network.", "DIR")],
    processes: Processes = Processes(),
    engine: Engine = Engine(),
    overrides: Annotated[tuple[str, ...], tyro.conf.Suppress] = (),
) -> None:
    """Trains a network on pairs of images.

    --config.FIELD=VALUE sets a field of the config, such as --config.num_steps=100.
    --engine=ray renders the rooms that the config needs; training stays in this process.
    """
    from jaxreloc.compilation.compilation_cache import use_compilation_cache
    from jaxreloc.config_flag import check_field, load_config
    from jaxreloc.training import distributed, train_and_evaluate

    loaded = load_config(config, overrides)
    check_field(loaded, "data.dataset")
    distributed.initialize(
        processes.coordinator,
        processes.num_processes,
        processes.process_id,
        cluster=processes.cluster,
    )
    use_compilation_cache()
    with engine.rendering(loaded.data.dataset):
        train_and_evaluate(loaded, workdir)
