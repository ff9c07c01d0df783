"""Trains a network on pairs of images.

  python run_train.py --config=configs/pairs.py --workdir=DIR
  python run_train.py --config=configs/pairs.py:quick --workdir=DIR --config.num_steps=100
"""

from absl import flags

from jaxreloc.compilation_cache import use_compilation_cache
from jaxreloc.config_flag import define_config
from jaxreloc.training import distributed, train_and_evaluate
from jaxreloc.usage import UsageError, run_script

FLAGS = flags.FLAGS
define_config()
flags.DEFINE_string("workdir", None, "Folder for checkpoints, logs and the trained network.")
flags.DEFINE_string("coordinator", None, "Of a run over several processes: HOST:PORT of process 0.")
flags.DEFINE_integer("num_processes", None, "How many processes there are.", lower_bound=1)
flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
flags.DEFINE_boolean("cluster", False, "Take these from the environment of SLURM, MPI, k8s or TPU.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UsageError(f"unknown argument {argv[1]!r}; flags start with --")
    for name in ("config", "workdir"):
        if FLAGS[name].value is None:
            raise UsageError(f"--{name} is missing; see python run_train.py --help")
    distributed.initialize(
        FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id, cluster=FLAGS.cluster
    )
    use_compilation_cache()
    train_and_evaluate(FLAGS.config, FLAGS.workdir)


if __name__ == "__main__":
    run_script(main)
