"""From `config.optimizer` to an optax transformation and its learning-rate schedule."""

import dataclasses
import functools

import jax
import ml_collections
import optax

from jaxreloc.models.weights import variables
from jaxreloc.usage import UsageError, check_choice

SCHEDULES = ("constant", "steps", "cosine")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The fields of `config.optimizer`; all steps count updates of the whole global batch.

    Attributes:
      learning_rate: the peak.
      schedule: what follows the warm-up: "constant", "steps" (times `decay_factor` at each of
        `decay_at`), or "cosine" (to zero at the last step).
      warmup_steps: the rate rises linearly from zero over these.
      decay_at, decay_factor: of "steps".
      b1, b2, eps: Adam's (Kingma and Ba, ICLR 2015).
      weight_decay: decoupled, times the learning rate (Loshchilov and Hutter, ICLR 2019); of
        kernels only.
      max_gradient_norm: gradients are scaled down to this global norm; None leaves them.
      frozen: parts of the network, such as "backbone" or "head/regression", whose parameters stay
        as they are.
    """

    learning_rate: float
    schedule: str = "constant"
    warmup_steps: int = 0
    decay_at: tuple[int, ...] = ()
    decay_factor: float = 0.1
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_gradient_norm: float | None = None
    frozen: tuple[str, ...] = ()

    def __post_init__(self):
        check_choice("optimizer.schedule", self.schedule, SCHEDULES)
        if self.learning_rate <= 0:
            raise UsageError(f"optimizer.learning_rate is {self.learning_rate}; give one above 0")


def build_optimizer(
    config: ml_collections.ConfigDict, num_steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Adam as `config.optimizer` describes it, and its `step -> learning rate`."""
    parsed = OptimizerConfig(**config.to_dict())
    schedule = _schedule(parsed, num_steps)
    parts = [optax.scale_by_adam(parsed.b1, parsed.b2, parsed.eps)]
    if parsed.max_gradient_norm is not None:
        parts.insert(0, optax.clip_by_global_norm(parsed.max_gradient_norm))
    if parsed.weight_decay:
        parts.append(optax.add_decayed_weights(parsed.weight_decay, mask=_kernels))
    adam = optax.chain(*parts, optax.scale_by_learning_rate(schedule))
    if parsed.frozen:
        transformations = {"trained": adam, "frozen": optax.set_to_zero()}
        adam = optax.partition(transformations, functools.partial(_labels, frozen=parsed.frozen))
    return adam, schedule


def _schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.schedule == "cosine":
        main = optax.cosine_decay_schedule(peak, max(1, num_steps - warmup))
    elif config.schedule == "steps":
        boundaries = {step - warmup: config.decay_factor for step in config.decay_at}
        main = optax.piecewise_constant_schedule(peak, boundaries)
    else:
        main = optax.constant_schedule(peak)
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])


def _kernels(params):
    """True for the weights of linear maps and convolutions, which have two axes or more."""
    return jax.tree.map(lambda x: x.ndim >= 2, params)


def _labels(params, frozen: tuple[str, ...]):
    """"frozen" or "trained" for each of the network's parameters, "trained" for the loss's."""
    network = variables.flatten(params["network"])
    within = lambda name, part: f"{name}/".startswith(f"{part}/")  # noqa: E731
    for part in frozen:
        if not any(within(name, part) for name in network):
            raise UsageError(
                f"optimizer.frozen: the network has no part {part!r}; its parts are "
                f"{', '.join(sorted(params['network']))}"
            )
    labels = {
        name: "frozen" if any(within(name, part) for part in frozen) else "trained"
        for name in network
    }
    return dict.fromkeys(params, "trained") | {"network": variables.unflatten(labels)}
