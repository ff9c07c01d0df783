"""Joining the processes of a run over several hosts."""

import jax

from jaxreloc.usage import UsageError


def initialize(
    coordinator: str | None, num_processes: int | None, process_id: int | None, *, cluster: bool
) -> None:
    """Makes this process one of a run over several; to be called before any use of a device.

    Args:
      coordinator, num_processes, process_id: HOST:PORT of process 0, how many there are and which
        this is, from 0; all three or none.
      cluster: take them from the environment of the cluster (SLURM, Open MPI, Kubernetes, TPU).

    Raises:
      UsageError: some are missing, or the cluster's environment does not say.
    """
    given = [coordinator, num_processes, process_id]
    if cluster:
        if given != [None] * 3:
            raise UsageError("--cluster and --coordinator exclude each other; give one")
        try:
            jax.distributed.initialize()
        except (ValueError, RuntimeError) as error:
            raise UsageError(
                f"--cluster: this is no SLURM, Open MPI, Kubernetes or TPU job ({error}); give "
                "--coordinator, --num_processes and --process_id"
            ) from error
    elif given != [None] * 3:
        if None in given:
            raise UsageError(
                "--coordinator, --num_processes and --process_id belong together; give all three"
            )
        if not 0 <= process_id < num_processes:
            raise UsageError(f"--process_id={process_id} is not in 0..{num_processes - 1}")
        jax.distributed.initialize(coordinator, num_processes, process_id)


def check_batch(batch_size: int, accumulation: int) -> None:
    """Raises UsageError unless the global batch divides evenly over devices and their parts."""
    parts = jax.device_count() * accumulation
    if batch_size % parts:
        raise UsageError(
            f"batch_size {batch_size} does not divide over {jax.device_count()} devices x "
            f"accumulation {accumulation}; give a multiple of {parts}"
        )
