"""Essential matrices of relative poses, and the five-point problem solved by Newton's method.

With `x_db ~ R x_query + t / depth` for `db_from_query = (R, t)`, a match satisfies

    x_db^T E x_query = 0,  E = [t]_x R,

for homogeneous coordinates (or viewing rays) of the two cameras. Four poses share an E up to sign:
(R, t), (R, -t) and the twisted pair (R_pi(t) R, +-t), where R_pi(t) turns by pi about t; the
depths' signs choose among them (Hartley and Zisserman, Multiple View Geometry, 9.6).

The five-point problem is solved on the manifold of rotations and directions by damped
Gauss-Newton, as Botterill et al., "Fast RANSAC hypothesis generation for essential matrix
estimation" (DICTA 2011) and Lui and Drummond, "An iterative 5-pt algorithm for fast and robust
essential matrix estimation" (BMVC 2013) do. Each start finds one of the (up to ten) solutions that
Nister's polynomial ("An efficient solution to the five-point relative pose problem", PAMI 2004)
gives at once, but the residuals are evaluated in the pose itself, so that float32 suffices, and
every hypothesis takes the same few hundred operations.
"""

import jax
import jax.numpy as jnp

from jaxreloc.geometry._kernels import lanes
from jaxreloc.geometry._kernels.lanes import LanePose, Matrix, Vector, cross, dot

LONGEST_NEWTON_STEP = 0.7  # radians
DAMPING = 1e-4  # of the squared residual
RIDGE = 1e-9


def essential_rows(pose: LanePose) -> Matrix:
    """`[t]_x R`: its columns are `t x (column of R)`."""
    columns = (cross(pose.t, column) for column in zip(*lanes.rotation_rows(pose.q_wxyz)))
    return tuple(zip(*columns))


def twisted(pose: LanePose) -> LanePose:
    """The other rotation of the same essential matrix, `R_pi(t) R`."""
    half_turn = (jnp.zeros_like(pose.t[0]),) + pose.t
    return LanePose(lanes.quaternion_product(half_turn, pose.q_wxyz), pose.t)


def opposite(pose: LanePose) -> LanePose:
    """The same rotation with the direction reversed."""
    return LanePose(pose.q_wxyz, tuple(-x for x in pose.t))


def align_two_rays(rays_query: tuple[Vector, Vector], rays_db: tuple[Vector, Vector]) -> Vector:
    """The rotation (quaternion) of db axes against query axes that two matched rays suggest.

    It aligns the bisectors and the planes of the two pairs (Black's TRIAD): exact for a camera
    that only turned, and a start within the parallax otherwise, whatever the in-plane rotation.
    """
    frame_db, frame_query = _frame(*rays_db), _frame(*rays_query)
    rows = tuple(
        tuple(dot(axis_db, axis_query) for axis_query in zip(*frame_query))
        for axis_db in zip(*frame_db)
    )
    return lanes.quaternion_from_rows(rows)


def five_point(
    rays_query: tuple[Vector, ...], rays_db: tuple[Vector, ...], start: LanePose, steps: int
) -> LanePose:
    """One pose a lane whose essential matrix (nearly) fits the lane's matches; depths may be
    negative.

    `rays_*` hold five (or more) vectors of lanes of any length. Residuals are Sampson's for unit
    rays, `t . (R x_query x x_db) / sqrt(|t x x_db|^2 + |t x R x_query|^2)`, the denominator held
    fixed within a step. Not every lane converges, and a sample with an outlier may converge too:
    a score must follow.
    """
    rays_query = tuple(lanes.unit(ray) for ray in rays_query)
    rays_db = tuple(lanes.unit(ray) for ray in rays_db)
    return jax.lax.fori_loop(
        0, steps, lambda _, pose: _newton_step(pose, rays_query, rays_db), start
    )


def _newton_step(pose: LanePose, rays_query, rays_db) -> LanePose:
    rotation = lanes.rotation_rows(pose.q_wxyz)
    basis = lanes.tangent_basis(pose.t)
    rows = [
        _residual_row(rotation, pose.t, basis, ray_query, ray_db)
        for ray_query, ray_db in zip(rays_query, rays_db, strict=True)
    ]
    residuals = tuple(row[5] for row in rows)
    damping = DAMPING * dot(residuals, residuals) + RIDGE
    normal = [
        [sum(row[i] * row[j] for row in rows) for j in range(i + 1)] for i in range(5)
    ]
    right = tuple(-sum(row[i] * row[5] for row in rows) for i in range(5))
    return lanes.retract(pose, lanes.solve_positive(normal, right, damping), LONGEST_NEWTON_STEP)


def _residual_row(rotation, t, basis, ray_query, ray_db) -> Vector:
    """The derivative by (rotation vector, two tangents of t), and the residual itself."""
    turned = lanes.transform(rotation, ray_query)
    normal = cross(turned, ray_db)
    across = cross(ray_db, t)
    epipolar = cross(turned, t)
    scale = jnp.sqrt(dot(across, across) + dot(epipolar, epipolar) + lanes.TINY)
    derivative = cross(turned, across) + (dot(normal, basis[0]), dot(normal, basis[1]))
    return tuple(entry / scale for entry in derivative + (dot(normal, t),))


def _frame(first: Vector, second: Vector) -> Matrix:
    """Orthonormal axes: the bisector, the normal, and their cross product."""
    first, second = lanes.unit(first), lanes.unit(second)
    bisector = lanes.unit(tuple(a + b for a, b in zip(first, second, strict=True)))
    normal = lanes.unit(cross(first, second))
    return bisector, normal, cross(bisector, normal)
