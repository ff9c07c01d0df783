"""A query's pose from its matches with N posed images at once: a bundle adjustment of one camera.

The query side of a match is the centre of one of K cells, exact by definition; the database sides
are measurements. All matches of one cell are one track, whose point lies on the cell's ray:

    X_j = c + R x_j / rho_j,    r_ij = project(R_i^T (X_j - c_i)) - y_ij,

with the query's rotation R and centre c, the inverse depth rho_j of cell j, and the database
cameras (R_i, c_i). Everything is divided by rho_j, so that points at infinity are ordinary:
v_ij = R_i^T (R x_j + rho_j (c - c_i)), r_ij = v_xy / v_z - y_ij. Where the depth of the database's
side is known (inverse depth d_ij, deviation s_ij), (rho_j / v_z - d_ij) / s_ij is a residual too.

The cost is Geman and McClure's, sum_ij w_ij e_ij / (S^2 + e_ij), with a scale S that falls from
stage to stage; e_ij is |r_ij|^2 / sigma_i^2 and the square of the depth's residual. A known depth
is no term of its own, since it would speak for wrong poses, too: rho_j is free to agree with it
where the matches of its cell agree with nothing. The cost is minimised by Levenberg-Marquardt on
SO(3) x R^3; the inverse depths are eliminated by the Schur complement, which is a scalar for each
of them (Triggs et al., "Bundle Adjustment - A Modern Synthesis", 2000). Matches lie on a dense grid
[N, K] with zero weights where there is none. A cell that is seen in one image alone constrains the
pose by its epipolar line, without being told.

In the normal equations, what depends on a match are eight numbers; all else is linear in them with
coefficients of its database image. So each step is a few elementwise passes over the grid and
small matrix products. Units: positions in any unit, `normalised` makes them suit single precision;
image coordinates on the plane z = 1.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxreloc.geometry._kernels import lanes

NEAREST = 1e-3  # of a ray's length: what lies less far in front of a camera is behind it
INVERSE_DEPTHS = (1e-4, 1e2)  # per unit of length, after `normalised`
DEPTH_ROUNDS = 4  # of the reweighted linear solution for the inverse depths
DEPTH_SCALE = 4.0  # S of these rounds
RIDGE = 1e-9
DAMPING = 1e-3
DAMPINGS = (1e-7, 1e6)
LONGEST_STEP = 0.3  # radians, and units of length
# Of a track's inverse depth, in one step.
LARGEST_CHANGE = (0.5, 3.0)

T = TypeVar("T")  # what is sought besides the depths


class DepthPrior(NamedTuple):
    """What is known of the inverse depths of the database's sides, in the database cameras."""

    inverse_depth: Float[Array, "N K"]
    weight: Float[Array, "N K"]  # 1 / deviation; 0 where nothing is known


class Tracks(NamedTuple):
    """The matches of one query with N database images.

    Attributes:
      rays: of the K query cells, in the query camera's axes, z = 1.
      x_db: where each database camera sees them, on its plane z = 1.
      weights: of each match; 0 masks it.
      rotation, centre: world_from_db.
      sigma: standard deviation of a match, image coordinates of each database camera.
      depth: None if nothing is known.
    """

    rays: Float[Array, "K 3"]
    x_db: Float[Array, "N K 2"]
    weights: Float[Array, "N K"]
    rotation: Float[Array, "N 3 3"]
    centre: Float[Array, "N 3"]
    sigma: Float[Array, "N"]
    depth: DepthPrior | None = None


class QueryPose(NamedTuple):
    """world_from_query."""

    rotation: Float[Array, "3 3"]
    centre: Float[Array, "3"]


class _Observed(NamedTuple):
    """What a pose and depths make of the matches; each [N, K]."""

    u: Array  # projected, over x and y
    v: Array
    inverse_z: Array
    r_x: Array
    r_y: Array
    r_depth: Array  # weighted by the prior
    squared: Array  # of r_ij, in deviations
    ahead: Array


def of_cells(tracks: Tracks, cells: Int[Array, "k"] | slice) -> Tracks:
    """The tracks of some cells."""
    depth = tracks.depth
    return tracks._replace(
        rays=tracks.rays[cells],
        x_db=tracks.x_db[:, cells],
        weights=tracks.weights[:, cells],
        depth=depth and DepthPrior(depth.inverse_depth[:, cells], depth.weight[:, cells]),
    )


def refine(
    tracks: Tracks,
    start: QueryPose,
    inverse_depth: Float[Array, "K"],
    scales: tuple[float, ...],
    steps: int,
) -> tuple[QueryPose, Float[Array, "K"], Float[Array, ""]]:
    """`steps` of Levenberg-Marquardt at each scale S; the pose, its depths, and its last cost."""

    def equations_of(pose: QueryPose, rho: Array, scale: Array) -> NormalEquations:
        return normal_equations(tracks, pose, rho, scale)

    def step(equations, pose: QueryPose, rho: Array, damping: Array, scale: Array):
        return _solve(equations, tracks, pose, rho, damping)

    return levenberg_marquardt(equations_of, step, start, inverse_depth, scales, steps)


def levenberg_marquardt(
    equations_of: Callable[[T, Array, Array], "NormalEquations"],
    step: Callable[["NormalEquations", T, Array, Array, Array], tuple[T, Array]],
    start: T,
    inverse_depth: Float[Array, "K"],
    scales: tuple[float, ...],
    steps: int,
) -> tuple[T, Float[Array, "K"], Float[Array, ""]]:
    """`steps` at each scale S: what was sought, its depths, and its last cost.

    Args:
      equations_of: of what is sought, its depths and S.
      step: what is sought and its depths after a step, of the equations, both, the damping and S.
      start, inverse_depth: where to begin.
    """

    scales = jnp.asarray(scales, jnp.float32)
    shapes = jax.eval_shape(equations_of, start, inverse_depth, scales[0])
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def one(i, state):
        """Judges the last step and makes the next one; each stage begins with no step."""
        best, equations, damping, tried = state
        stage, count = i // (steps + 1), i % (steps + 1)
        new = equations_of(*tried, scales[stage])
        better = (count == 0) | (new.cost < equations.cost)
        best, equations = jax.tree.map(
            lambda a, b: jnp.where(better, a, b), (tried, new), (best, equations)
        )
        damping = jnp.clip(jnp.where(better, 0.1 * damping, 10.0 * damping), *DAMPINGS)
        damping = jnp.where(count == 0, DAMPING, damping)
        step_to = step(equations, *best, damping, scales[stage])
        tried = jax.tree.map(lambda a, b: jnp.where(count < steps, a, b), step_to, best)
        return best, equations, damping, tried

    begin = start, inverse_depth
    state = begin, nothing, jnp.float32(DAMPING), begin
    (found, rho), equations, *_ = jax.lax.fori_loop(0, len(scales) * (steps + 1), one, state)
    return found, rho, equations.cost


def linear_inverse_depth(tracks: Tracks, pose: QueryPose) -> Float[Array, "K"]:
    """The inverse depth of each cell given the pose.

    On the ray the projection errors p + rho q are linear; the least squares solution is reweighted
    by the errors that it leaves.
    """
    a, b = _in_database(tracks, pose)
    y = tracks.x_db
    p = (a[0] - y[..., 0] * a[2], a[1] - y[..., 1] * a[2])
    q = tuple(
        b[:, k, None] - y[..., k] * b[:, 2, None] for k in (0, 1)
    )
    pq, qq = p[0] * q[0] + p[1] * q[1], q[0] * q[0] + q[1] * q[1]
    weights = tracks.weights / tracks.sigma[:, None] ** 2

    def round_(_, carry):
        rho, factor, depth_factor = carry
        w = weights * factor
        top, bottom = -jnp.sum(w * pq, axis=0), jnp.sum(w * qq, axis=0)
        if tracks.depth is not None:
            # rho / v_z = d with v_z = a_z + rho b_z: rho (1 - d b_z) = d a_z.
            one = 1 - tracks.depth.inverse_depth * b[:, 2, None]
            known = tracks.weights * depth_factor * tracks.depth.weight**2
            top = top + jnp.sum(known * one * tracks.depth.inverse_depth * a[2], axis=0)
            bottom = bottom + jnp.sum(known * one * one, axis=0)
        rho = jnp.clip(top / (bottom + RIDGE), *INVERSE_DEPTHS)
        seen = _observe(tracks, pose, rho)
        factor = (DEPTH_SCALE**2 / (DEPTH_SCALE**2 + seen.squared)) ** 2
        factor = jnp.where(seen.ahead, factor * seen.inverse_z**2, 0.0)
        depth_factor = (DEPTH_SCALE**2 / (DEPTH_SCALE**2 + seen.r_depth**2)) ** 2
        depth_factor = jnp.where(seen.ahead, depth_factor * seen.inverse_z**2, 0.0)
        return rho, factor, depth_factor

    count = tracks.rays.shape[0]
    ones = jnp.ones(tracks.weights.shape)
    start = (jnp.full(count, INVERSE_DEPTHS[0]), ones, ones)
    return jax.lax.fori_loop(0, DEPTH_ROUNDS, round_, start)[0]


def refine_depth(
    tracks: Tracks, pose: QueryPose, inverse_depth: Float[Array, "K"], scale: float, steps: int
) -> tuple[Float[Array, "K"], Float[Array, "K"]]:
    """The inverse depths alone by Gauss-Newton, the pose being known, and their information."""

    def step(_, rho):
        equations = normal_equations(tracks, pose, rho, jnp.float32(scale))
        change = -equations.depth_gradient / (equations.depth_curvature + RIDGE)
        smallest, largest = LARGEST_CHANGE
        change = jnp.clip(change, -smallest * rho, largest * rho)
        return jnp.clip(rho + change, *INVERSE_DEPTHS)

    rho = jax.lax.fori_loop(0, steps, step, inverse_depth)
    equations = normal_equations(tracks, pose, rho, jnp.float32(scale))
    return rho, scale**2 * equations.depth_curvature


def cost(
    tracks: Tracks, pose: QueryPose, inverse_depth: Float[Array, "K"], scale: float
) -> Float[Array, ""]:
    """Geman and McClure's sum of the module; a match that is not in front counts as an outlier."""
    return _cost(tracks, _observe(tracks, pose, inverse_depth), scale)


def residuals(
    tracks: Tracks, pose: QueryPose, inverse_depth: Float[Array, "K"]
) -> tuple[Float[Array, "N K"], Bool[Array, "N K"]]:
    """|r_ij|^2 / sigma_i^2, and whether the point lies before the camera."""
    seen = _observe(tracks, pose, inverse_depth)
    return seen.squared, seen.ahead


def information(
    tracks: Tracks, pose: QueryPose, inverse_depth: Float[Array, "K"], scale: float
) -> Float[Array, "6 6"]:
    """The Schur complement at a pose: of the rotation vector and the centre, world axes."""
    equations = normal_equations(tracks, pose, inverse_depth, jnp.float32(scale))
    # d(cost) / d(e) at e = 0 is w / S^2.
    return scale**2 * reduced(equations, inverse_depth, pose, tracks, 0.0)[0]


def _in_database(tracks: Tracks, pose: QueryPose):
    """v = a + rho b in each database camera: a as three [N, K], b [N, 3]."""
    from_query = jnp.einsum("nji,jk->nik", tracks.rotation, pose.rotation)
    a = jnp.einsum("nik,ck->nic", from_query, tracks.rays)
    b = jnp.einsum("nji,nj->ni", tracks.rotation, pose.centre[None] - tracks.centre)
    return (a[:, 0], a[:, 1], a[:, 2]), b


def _observe(tracks: Tracks, pose: QueryPose, rho: Float[Array, "K"]) -> _Observed:
    a, b = _in_database(tracks, pose)
    v = tuple(a[k] + rho[None] * b[:, k, None] for k in range(3))
    ahead = v[2] > NEAREST
    # Divisions are what XLA keeps instead of computing it again at each use.
    inverse_z = 1 / jnp.where(ahead, v[2], 1.0)
    u, w = v[0] * inverse_z, v[1] * inverse_z
    r_x, r_y = u - tracks.x_db[..., 0], w - tracks.x_db[..., 1]
    squared = (r_x * r_x + r_y * r_y) / tracks.sigma[:, None] ** 2
    r_depth = jnp.zeros_like(r_x)
    if tracks.depth is not None:
        r_depth = tracks.depth.weight * (rho[None] * inverse_z - tracks.depth.inverse_depth)
    return _Observed(u, w, inverse_z, r_x, r_y, r_depth, squared, ahead)


def _cost(tracks: Tracks, seen: _Observed, scale) -> Float[Array, ""]:
    squared = seen.squared + seen.r_depth**2
    share = jnp.where(seen.ahead, squared / (scale**2 + squared), 1.0)
    return jnp.sum(tracks.weights * share)


class NormalEquations(NamedTuple):
    """Sums over the database images, for each cell.

    With G_ij = d r_ij / d v_ij R_i^T: `curvature` sum w G^T G (its upper triangle), `gradient` sum
    w G^T r; with d_ij = d r_ij / d rho_j: `mixed` sum w G^T d, `depth_curvature` sum w d^T d and
    `depth_gradient` sum w d^T r.
    """

    curvature: Float[Array, "6 K"]
    gradient: Float[Array, "3 K"]
    mixed: Float[Array, "3 K"]
    depth_curvature: Float[Array, "K"]
    depth_gradient: Float[Array, "K"]
    cost: Float[Array, ""]


_UPPER = tuple(zip(*np.triu_indices(3), strict=True))
_WITH_DEPTH = ((0, 3), (1, 3), (2, 3), (3, 3))  # rows of `_axes`: `mixed`, `depth_curvature`


def normal_equations(
    tracks: Tracks, pose: QueryPose, rho: Float[Array, "K"], scale: Array
) -> NormalEquations:
    seen = _observe(tracks, pose, rho)
    robust = tracks.weights * scale**2 / (scale**2 + seen.squared + seen.r_depth**2) ** 2
    robust = jnp.where(seen.ahead, robust, 0.0)
    weight = robust / tracks.sigma[:, None] ** 2
    along = weight * seen.inverse_z
    s = along * seen.inverse_z
    su, sv = s * seen.u, s * seen.v
    # P^T P and P^T r of P = d r / d v, in the database camera's axes.
    square = [s, su, sv, s * (seen.u**2 + seen.v**2)]
    right = [along * seen.r_x, along * seen.r_y, -along * (seen.u * seen.r_x + seen.v * seen.r_y)]
    if tracks.depth is not None:
        by_rho = tracks.depth.weight * seen.inverse_z  # of the third residual, v fixed
        by_z = -rho[None] * by_rho * seen.inverse_z
        square[3] = square[3] + robust * by_z**2
        right[2] = right[2] + robust * by_z * seen.r_depth
    axes = _axes(tracks, pose)
    first, second = (axes[np.array(rows)] for rows in zip(*_UPPER, *_WITH_DEPTH, strict=True))
    forms = [
        first[:, 0] * second[:, 0] + first[:, 1] * second[:, 1],
        -(first[:, 0] * second[:, 2] + first[:, 2] * second[:, 0]),
        -(first[:, 1] * second[:, 2] + first[:, 2] * second[:, 1]),
        first[:, 2] * second[:, 2],
    ]
    squares = jnp.einsum("fsn,snk->fk", jnp.stack(forms, axis=1), jnp.stack(square))
    products = jnp.einsum("fsn,snk->fk", axes, jnp.stack(right))
    mixed, depth_curvature, depth_gradient = squares[6:9], squares[9], products[3]
    if tracks.depth is not None:
        both = jnp.einsum("fn,nk->fk", axes[:, 2], robust * by_z * by_rho)
        mixed = mixed + both[:3]
        depth_curvature = depth_curvature + 2 * both[3] + jnp.sum(robust * by_rho**2, axis=0)
        depth_gradient = depth_gradient + jnp.sum(robust * by_rho * seen.r_depth, axis=0)
    return NormalEquations(
        curvature=squares[:6],
        gradient=products[:3],
        mixed=mixed,
        depth_curvature=depth_curvature,
        depth_gradient=depth_gradient,
        cost=_cost(tracks, seen, scale),
    )


def _axes(tracks: Tracks, pose: QueryPose) -> Float[Array, "4 3 N"]:
    """The world's axes and the way of a track's point with rho_j, in each camera's axes."""
    offset = jnp.einsum("nij,ni->jn", tracks.rotation, pose.centre[None] - tracks.centre)
    return jnp.concatenate([jnp.moveaxis(tracks.rotation, 0, -1), offset[None]])


class Reduced(NamedTuple):
    """The system of six unknowns without the depths, and what it is made of.

    A step (w, dc) moves cell j's ray by T_j (w, dc), T_j = [-[R x_j]_x, rho_j I]; the matrix is
    sum T_j^T schur_j T_j, the right side sum T_j^T gradient_j.
    """

    matrix: Float[Array, "6 6"]
    right: Float[Array, "6"]
    diagonal: Float[Array, "6"]  # before the depths are eliminated
    depth: Float[Array, "K"]  # the curvature along each
    turned: Float[Array, "K 3"]  # R x_j
    schur: Float[Array, "6 K"]  # upper triangles
    gradient: Float[Array, "3 K"]


def reduced(
    equations: NormalEquations,
    rho: Float[Array, "K"],
    pose: QueryPose,
    tracks: Tracks,
    damping: Array | float,
) -> Reduced:
    """The depths eliminated by the Schur complement."""
    depth = equations.depth_curvature * (1 + damping) + RIDGE
    mixed = equations.mixed
    products = jnp.stack([mixed[i] * mixed[j] for i, j in _UPPER])
    schur = equations.curvature - products / depth[None]
    gradient = equations.gradient - mixed * (equations.depth_gradient / depth)[None]
    turned = tracks.rays @ pose.rotation.T
    z = jnp.concatenate([turned.T, rho[None]])  # [4, K]
    pairs = jnp.stack([z[a] * z[b] for a, b in zip(*np.triu_indices(4), strict=True)])
    moments = jnp.einsum("pk,qk->pq", pairs, jnp.concatenate([schur, equations.curvature]))
    matrix = jnp.einsum("abpq,pq->ab", _FORMS, moments[:, :6])
    full = jnp.einsum("abpq,pq->ab", _FORMS, moments[:, 6:])
    right = jnp.einsum("azi,zi->a", _LINEAR, jnp.einsum("zk,ik->zi", z, gradient))
    return Reduced(matrix, right, jnp.diagonal(full), depth, turned, schur, gradient)


def _solve(equations, tracks, pose, rho, damping):
    system = reduced(equations, rho, pose, tracks, damping)
    diagonal, turned = system.diagonal, system.turned
    matrix = system.matrix + jnp.diag(damping * diagonal + RIDGE * jnp.sum(diagonal) + lanes.TINY)
    step = -jnp.linalg.solve(matrix, system.right[:, None])[:, 0]
    step = jnp.where(jnp.all(jnp.isfinite(step)), step, 0.0)
    step = step * jnp.minimum(1.0, LONGEST_STEP / (jnp.max(jnp.abs(step)) + lanes.TINY))
    moved = jnp.cross(step[None, :3], turned) + rho[:, None] * step[None, 3:]
    new_rho = depths_after(equations, rho, moved, system.depth)
    return QueryPose(turn(step[:3]) @ pose.rotation, pose.centre + step[3:]), new_rho


def depths_after(
    equations: NormalEquations,
    rho: Float[Array, "K"],
    moved: Float[Array, "K 3"],
    curvature: Float[Array, "K"],
) -> Float[Array, "K"]:
    """The inverse depths that suit rays which a step has moved."""
    change = -(equations.depth_gradient + jnp.sum(equations.mixed.T * moved, axis=1)) / curvature
    smallest, largest = LARGEST_CHANGE
    return jnp.clip(rho + jnp.clip(change, -smallest * rho, largest * rho), *INVERSE_DEPTHS)


def turn(w: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """The rotation by a rotation vector, from the quaternion (1, w / 2)."""
    q = lanes.unit((jnp.ones(()), *(0.5 * x for x in w)))
    return jnp.stack([jnp.stack(row) for row in lanes.rotation_rows(q)])


def _forms() -> tuple[np.ndarray, np.ndarray]:
    """T^T N T and T^T h as sums over products of z = (R x, rho) with the entries of N, and of h."""
    steps = np.zeros((6, 4, 3))  # T^T = sum_z z steps[:, z]
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        # w x (R x), component k, is w_i (R x)_j - w_j (R x)_i.
        steps[i, j, k] = 1.0
        steps[j, i, k] = -1.0
        steps[3 + i, 3, i] = 1.0
    upper4, upper3 = list(zip(*np.triu_indices(4))), list(zip(*np.triu_indices(3)))
    forms = np.zeros((6, 6, 10, 6))
    for p, (y, z) in enumerate(upper4):
        for q, (i, j) in enumerate(upper3):
            for a, b in {(y, z), (z, y)}:
                for m, n in {(i, j), (j, i)}:
                    forms[:, :, p, q] += np.outer(steps[:, a, m], steps[:, b, n])
    return forms.astype(np.float32), steps.astype(np.float32)


_FORMS, _LINEAR = _forms()
