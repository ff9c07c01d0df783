"""The correlation head and its transformer: outputs, gradients, and the head as a whole."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxreloc.models import layers
from jaxreloc.models.backbones.features import Features
from jaxreloc.models.heads.correlation_head import CorrelationHead
from jaxreloc.models.heads.pose_transformer import TOKENS, PoseTransformer, match_tokens
from jaxreloc.models.matching.description import CellDescription
from jaxreloc.models.matching.rays import RayMatches
from jaxreloc.models.siamese import SiameseNetwork

TRANSFORMER = PoseTransformer(layers.Compute())
init = jax.jit(TRANSFORMER.init)
apply = jax.jit(TRANSFORMER.apply)


def random_matches(rng, batch=2, count=TOKENS) -> RayMatches:
    def uniform(*shape):
        return jnp.asarray(rng.uniform(-0.6, 0.6, shape), jnp.float32)

    confidence, mass, reverse = (jnp.abs(uniform(batch, count)) for _ in range(3))
    return RayMatches(uniform(batch, count, 2), uniform(batch, count, 2), confidence, mass, reverse)


def test_transformer_starts_near_the_identity_with_finite_gradients(rng):
    matches = random_matches(rng)
    variables = init(jax.random.key(0), matches)
    pose = apply(variables, matches)
    assert pose.t.shape == (2, 3)
    np.testing.assert_allclose(pose.q_wxyz, np.tile([1, 0, 0, 0], (2, 1)), atol=0.3)
    np.testing.assert_allclose(pose.t, np.zeros((2, 3)), atol=0.3)
    assert pose.reliability.overlap_logit.shape == (2,)

    def total(variables):
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(apply(variables, matches)))

    gradients = jax.jit(jax.grad(total))(variables)["params"]
    for name, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), name
        if not any(part.key == "key" for part in name):  # softmax ignores a shift of every score
            assert np.abs(gradient).max() > 0, name


def test_transformer_ignores_the_order_of_the_matches(rng):
    matches = random_matches(rng)
    order = rng.permutation(TOKENS)
    variables = init(jax.random.key(0), matches)
    shuffled = apply(variables, jax.tree.map(lambda x: x[:, order], matches))
    for a, b in zip(jax.tree.leaves(apply(variables, matches)), jax.tree.leaves(shuffled)):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_transformer_uses_the_most_confident_matches(rng):
    matches = random_matches(rng, count=TOKENS + 10)
    tokens = match_tokens(matches, TOKENS)
    assert tokens.shape == (2, TOKENS, 19)
    first = jax.tree.map(lambda x: x[:, :TOKENS], matches)
    np.testing.assert_array_equal(tokens, match_tokens(first, TOKENS))


def test_tokens_hold_the_epipolar_constraint(rng):
    """`x_db^T E x_query` is linear in the token's last eight entries and a constant."""
    matches = random_matches(rng)
    essential = rng.normal(size=(3, 3))
    query, db = (
        np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)
        for x in (np.asarray(matches.x_query), np.asarray(matches.x_db))
    )
    expected = np.einsum("bki,ij,bkj->bk", db, essential, query)
    products = np.asarray(match_tokens(matches, TOKENS))[..., -8:]
    found = products @ essential.T.reshape(9)[:8] + essential[2, 2]
    np.testing.assert_allclose(found, expected, atol=1e-4)


class PatchBackbone(nn.Module):
    """Linear features of the patches of stride 4, 8 and 16."""

    @nn.compact
    def __call__(self, images, train: bool) -> Features:
        maps = {
            name: nn.Conv(12, (stride, stride), (stride, stride), name=name)(images / 255.0 - 0.5)
            for name, stride in (("detail", 4), ("fine", 8), ("coarse", 16))
        }
        return Features(layers.global_average(maps["coarse"]), maps)


def test_relates_images_of_any_shape_by_their_intrinsics(rng):
    head = CorrelationHead(layers.Compute(), CellDescription(("detail", "fine", "coarse")))
    network = SiameseNetwork(PatchBackbone(), head)
    images = jnp.asarray(rng.integers(0, 256, (2, 128, 96, 3)), jnp.uint8)
    intrinsics = jnp.tile(jnp.array([[[90.0, 0, 48], [0, 90, 64], [0, 0, 1]]]), (2, 1, 1))
    given = images, images, intrinsics, intrinsics
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(1), *given, train=False))
    variables = jax.tree.map(  # of any sign but for scales and variances
        lambda s: np.float32(rng.uniform(0.2, 1, s.shape) - 0.6 * (len(s.shape) > 1)), shapes
    )

    @jax.jit
    def relate(intrinsics):
        return network.apply(variables, images, images, intrinsics, intrinsics, train=False)

    pose = relate(intrinsics)
    assert pose.t.shape == (2, 3)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(pose))
    scaled = jnp.array([[[2.0], [2.0], [1.0]]])
    assert np.abs(relate(intrinsics * scaled).t - pose.t).max() > 1e-6
