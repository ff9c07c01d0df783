"""Image retrieval: exact nearest neighbours of a global descriptor by cosine similarity."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@functools.partial(jax.jit, static_argnames="num_neighbors")
def most_similar(
    query_descriptors: Float[Array, "queries dim"],
    db_descriptors: Float[Array, "database dim"],
    num_neighbors: int,
) -> tuple[Int[Array, "queries neighbors"], Float[Array, "queries neighbors"]]:
    """Database indices by falling similarity, and the similarities `<query, database>`.

    Both descriptors are L2-normalised, so that the inner product is the cosine. There are
    `min(num_neighbors, database)` neighbours; equal similarities keep the database's order.
    """
    similarity = jnp.matmul(query_descriptors, db_descriptors.T, precision="highest")
    similarities, indices = jax.lax.top_k(similarity, min(num_neighbors, db_descriptors.shape[0]))
    return indices, similarities
