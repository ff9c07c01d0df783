"""The parts of a consensus search that know nothing of what is estimated.

A search draws hypotheses from small subsets of the data (`draw_pairs`), the caller's solver turns
each into a model and scores it against all data, and `best` or `most_votes` says which models win.
Hypotheses lie along the first axis, the batch along the last.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Which pairs of data make hypotheses: all of them up to `max_exhaustive` data, else a draw."""

    max_exhaustive: int = 16
    num_sampled: int = 120

    def __post_init__(self):
        if self.max_exhaustive < 1 or self.num_sampled < 1:
            raise ValueError(f"{self}: both counts must be at least 1")


class Pairs(NamedTuple):
    """Pairs of rows: NumPy indices [P] shared by the batch, or one index array [P, B]."""

    first: np.ndarray | jax.Array
    second: np.ndarray | jax.Array
    usable: jax.Array  # [P, B]: both rows are valid

    def rows(self, xs: tuple[jax.Array, ...]) -> tuple[tuple[jax.Array, ...], ...]:
        """The rows of `xs`, each [N, B], at the first and at the second index, each [P, B]."""
        return _gather(xs, self.first), _gather(xs, self.second)


def draw_pairs(valid: jax.Array, key: jax.Array, sampling: Sampling) -> Pairs:
    """All pairs of the N data, or `sampling.num_sampled` random ones where N is large.

    A draw is uniform over the pairs of valid data, with replacement; an element of the batch
    with so few valid data that all their pairs fit gets every pair once.

    Args:
      valid: [N, B].
      key: the draw; every element of the batch uses the same random numbers, so that an answer
        does not depend on its place in the batch.
    """
    count = valid.shape[0]
    if count <= sampling.max_exhaustive:
        first, second = np.triu_indices(count, 1)
        return Pairs(first, second, valid[first] & valid[second])
    num_valid = jnp.sum(valid, axis=0)
    rank_first, rank_second = _sample_ranks(num_valid, key, sampling.num_sampled)
    order = jnp.argsort(~valid, axis=0, stable=True)  # the valid data first
    first = jnp.take_along_axis(order, rank_first, axis=0)
    second = jnp.take_along_axis(order, rank_second, axis=0)
    return Pairs(first, second, rank_second < num_valid[None])


def _sample_ranks(
    num_valid: jax.Array, key: jax.Array, num_pairs: int
) -> tuple[jax.Array, jax.Array]:
    """Two different ranks below `num_valid` [B] for each of the pairs: [P, B].

    Unused pairs (more pairs than there are) have a second rank of `num_valid` or more.
    """
    # The pairs (0, 1), (0, 2), (1, 2), (0, 3)...: the first n (n - 1) / 2 are those of n data.
    listed = int(np.ceil((1 + np.sqrt(1 + 8 * num_pairs)) / 2))
    high, low = np.tril_indices(listed, -1)
    few = (num_valid * (num_valid - 1) // 2 <= num_pairs)[None]
    uniform = jax.random.uniform(key, (2, num_pairs, 1))
    last = jnp.maximum(num_valid - 1, 1)[None]
    first = jnp.minimum((uniform[0] * (last + 1)).astype(jnp.int32), last)
    second = jnp.minimum((uniform[1] * last).astype(jnp.int32), last - 1)
    second = jnp.where(second >= first, second + 1, second)
    first = jnp.where(few, low[:num_pairs, None], first)
    second = jnp.where(few, high[:num_pairs, None], second)
    return first, second


def at_mass(cumulative: jax.Array, share: jax.Array) -> jax.Array:
    """The datum at each share, in [0, 1), of the cumulative weight [K]."""
    index = jnp.searchsorted(cumulative, share.reshape(-1) * cumulative[-1], side="right")
    return jnp.minimum(index, cumulative.shape[0] - 1).reshape(share.shape)


def best(score: jax.Array, usable: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The hypothesis of the highest score; the first of those that tie.

    Args:
      score, usable: [H, B].

    Returns:
      Its index [B] (0 where there is none), and whether any is usable [B].
    """
    return jnp.argmax(jnp.where(usable, score, -jnp.inf), axis=0), jnp.any(usable, axis=0)


def most_votes(votes: jax.Array, usable: jax.Array) -> tuple[jax.Array, jax.Array]:
    """All hypotheses that tie for the most votes.

    Args:
      votes: [H, B], 0 or more.
      usable: [H, B].

    Returns:
      The winners [H, B], and whether any hypothesis is usable [B].
    """
    votes = jnp.where(usable, votes, -1)
    leading = jnp.max(votes, axis=0, initial=-1)
    return (votes == leading[None]) & usable, jnp.any(usable, axis=0)


def _gather(xs: tuple[jax.Array, ...], index: np.ndarray | jax.Array) -> tuple[jax.Array, ...]:
    if isinstance(index, np.ndarray):
        return tuple(x[index] for x in xs)
    return tuple(jnp.take_along_axis(x, index, axis=0) for x in xs)
