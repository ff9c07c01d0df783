"""Properties of `fuse`, the paper's method against its reference, and real cameras."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jaxlie import SE3
from scipy.spatial.transform import Rotation

from benchmarks.accuracy import fusion_accuracy
from jaxreloc.geometry._kernels.location import LocationConfig
from jaxreloc.geometry._kernels.ransac import Sampling
from jaxreloc.geometry._kernels.rotation import RotationConfig
from jaxreloc.geometry.fusion import FusionConfig, Reliability, fuse
from tests.geometry.paper_reference import fuse_paper, l1_cost
from tests.geometry.simulated_pairs import Noise, predict, random_poses, rooms, rotation_of

BATCH, COUNT = 64, 6  # one shape, so that most tests share the compiled function
BLOCKS = 1100  # queries, more than one block
METHODS = ("paper", "robust", "median")
EXACT = Noise(direction_deg=0.0, rotation_deg=0.0, length=0.0, outliers=0.0)
MILD = Noise(direction_deg=2.0, rotation_deg=2.0, length=0.1, outliers=0.0)


def se3(array):
    return SE3(jnp.asarray(array, jnp.float32))


def run(db, relative, **options):
    """With an explicit mask, so that masked and unmasked tests share the compiled function."""
    options.setdefault("valid", jnp.ones(np.shape(db)[:-1], bool))
    return fuse(se3(db), se3(relative), **options)


def cameras(rng, noise=MILD, batch=BATCH, count=COUNT):
    query, db = rooms(rng, batch, count)
    relative, outlier = predict(rng, db, query, noise)
    return query, db, relative, outlier


def deviation(fused, poses):
    """Metres and degrees between fused poses and poses [B, 7] (or of another result)."""
    a, b = (np.asarray(getattr(x, "wxyz_xyz", x), np.float64) for x in (
        fused.world_from_query, getattr(poses, "world_from_query", poses)
    ))
    angle = (rotation_of(a).inv() * rotation_of(b)).magnitude()
    return np.linalg.norm(a[:, 4:] - b[:, 4:], axis=-1), np.rad2deg(angle)


def transformed(pose, poses):
    """`pose @ poses` of [7] and [..., 7], in NumPy."""
    flat = poses.reshape(-1, 7)
    rotation = rotation_of(pose)
    q_wxyz = (rotation * rotation_of(flat)).as_quat(scalar_first=True)
    moved = np.concatenate([q_wxyz, rotation.apply(flat[:, 4:]) + pose[4:]], axis=-1)
    return moved.reshape(poses.shape)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_exact_relative_poses_give_the_exact_pose(rng, method, count):
    query, db, relative, _ = cameras(rng, EXACT)
    valid = jnp.broadcast_to(jnp.arange(COUNT) < count, (BATCH, COUNT))
    fused = run(db, relative, valid=valid, method=method)
    metres, degrees = deviation(fused, query)
    assert degrees.max() < 0.02
    if method == "paper" and count == 1:
        np.testing.assert_allclose(fused.world_from_query.translation(), db[:, 0, 4:], atol=1e-5)
        assert not fused.success.any()
    else:  # a distance of less than MIN_LENGTH is predicted too long
        assert np.quantile(metres, 0.9) < 0.01


@pytest.mark.parametrize("method", METHODS)
def test_error_vanishes_with_the_noise(rng, method):
    medians = []
    for size in (1.0, 0.1):
        noise = Noise(2.0 * size, 2.0 * size, 0.1 * size, 0.0)
        query, db, relative, _ = cameras(rng, noise)
        medians.append([np.median(x) for x in deviation(run(db, relative, method=method), query)])
    assert (np.array(medians[1]) < 0.3 * np.array(medians[0])).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_change_of_world_moves_the_answer_along(rng, method):
    _, db, relative, _ = cameras(rng)
    change = random_poses(rng, 1)[0]
    fused = run(db, relative, method=method)
    moved = run(transformed(change, db), relative, method=method)
    metres, degrees = deviation(
        moved, transformed(change, np.asarray(fused.world_from_query.wxyz_xyz))
    )
    assert np.quantile(metres, 0.9) < 2e-3 and np.quantile(degrees, 0.9) < 0.02
    turn = rotation_of(change).as_matrix()
    expected = turn @ np.asarray(fused.position_covariance) @ turn.T
    ratio = np.linalg.norm(moved.position_covariance - expected, axis=(1, 2)) / np.linalg.norm(
        expected, axis=(1, 2)
    )
    assert np.quantile(ratio, 0.9) < 0.02


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_neighbours_does_not_matter(rng, method):
    _, db, relative, _ = cameras(rng, Noise())
    order = rng.permutation(COUNT)
    a, b = run(db, relative, method=method), run(db[:, order], relative[:, order], method=method)
    metres, degrees = deviation(a, b)
    assert np.quantile(metres, 0.9) < 2e-3 and np.quantile(degrees, 0.9) < 0.05
    same = np.asarray(a.location_inliers)[:, order] == np.asarray(b.location_inliers)
    assert same.mean() > 0.97


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_scale_scales_the_answer(rng, method, factor):
    _, db, relative, _ = cameras(rng)
    a = run(db, relative, method=method)
    scale = np.array([1, 1, 1, 1, factor, factor, factor])
    b = run(db * scale, relative * scale, method=method)
    metres, _ = deviation(b, np.asarray(a.world_from_query.wxyz_xyz) * scale)
    assert np.quantile(metres, 0.9) < 2e-3 * factor


@pytest.mark.parametrize("method", METHODS)
def test_a_duplicate_changes_nothing_qualitatively(rng, method):
    query, db, relative, _ = cameras(rng)
    valid = np.broadcast_to(np.arange(COUNT) < COUNT - 1, (BATCH, COUNT))
    once = deviation(run(db, relative, valid=jnp.asarray(valid), method=method), query)
    db[:, -1], relative[:, -1] = db[:, 0], relative[:, 0]
    twice = deviation(run(db, relative, method=method), query)
    for a, b in zip(once, twice):
        assert np.median(b) < 1.5 * np.median(a)


@pytest.mark.parametrize("num_outliers", [1, 2, 3])
def test_planted_outliers_are_told(rng, num_outliers):
    query, db, relative, _ = cameras(rng)
    relative[:, :num_outliers] = random_poses(rng, BATCH, num_outliers)
    fused = run(db, relative)
    metres, degrees = deviation(fused, query)
    assert np.mean(metres < 0.4) > 0.85 and np.mean(degrees < 10) > 0.85
    for inliers in (fused.location_inliers, fused.rotation_inliers):
        assert np.mean(inliers[:, num_outliers:]) > 0.9
        assert np.mean(inliers[:, :num_outliers]) < 0.15
    assert np.mean(fused.success) > 0.9


def test_all_but_one_wrong_is_no_success(rng):
    _, db, relative, _ = cameras(rng)
    relative[:, 1:] = random_poses(rng, BATCH, COUNT - 1)
    assert np.mean(run(db, relative).success) < 0.25


@pytest.mark.parametrize("method", METHODS)
def test_masked_neighbours_do_not_count(rng, method):
    _, db, relative, _ = cameras(rng)
    valid = jnp.asarray(rng.uniform(size=(BATCH, COUNT)) < 0.7).at[:, 0].set(True)
    a = run(db, relative, valid=valid, method=method)
    for garbage in (np.nan, np.inf, 1e30, 0.0):
        spoilt = np.where(np.asarray(valid)[..., None], relative, garbage)
        b = run(db, spoilt, valid=valid, method=method)
        np.testing.assert_array_equal(a.world_from_query.wxyz_xyz, b.world_from_query.wxyz_xyz)
        assert not (b.location_inliers & ~valid).any() and not (b.rotation_inliers & ~valid).any()


@pytest.mark.parametrize("method", METHODS)
def test_a_neighbour_without_finite_numbers_counts_as_absent(rng, method):
    _, db, relative, _ = cameras(rng)
    valid = jnp.ones((BATCH, COUNT), bool).at[:, 2].set(False)
    a = run(db, relative, valid=valid, method=method)
    relative[:, 2, 5] = np.nan
    b = run(db, relative, method=method)
    np.testing.assert_array_equal(a.world_from_query.wxyz_xyz, b.world_from_query.wxyz_xyz)


def same_place(rng):
    db = random_poses(rng, BATCH, COUNT)
    db[..., 4:] = db[:, :1, 4:]
    return db, random_poses(rng, BATCH, COUNT)


def parallel(rng):
    """The same direction and length from everywhere, so that no two rays meet."""
    db = random_poses(rng, BATCH, COUNT)
    t = rotation_of(db.reshape(-1, 7)).inv().apply([[1.0, 2.0, 3.0]]).reshape(BATCH, COUNT, 3)
    return db, np.concatenate([random_poses(rng, BATCH, COUNT)[..., :4], t], axis=-1)


def no_translation(rng):
    relative = random_poses(rng, BATCH, COUNT)
    relative[..., 4:] = 0
    return random_poses(rng, BATCH, COUNT), relative


def all_identical(rng):
    one = random_poses(rng, BATCH, 1), random_poses(rng, BATCH, 1)
    return tuple(np.repeat(x, COUNT, axis=1) for x in one)


def nothing(rng):
    return np.zeros((BATCH, COUNT, 7)), np.zeros((BATCH, COUNT, 7))


DEGENERATE = [same_place, parallel, no_translation, all_identical, nothing]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_input_gives_a_defined_answer(rng, method, case):
    db, relative = case(rng)
    fused = run(db, relative, method=method)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(fused))
    assert np.linalg.norm(fused.world_from_query.wxyz_xyz[:, :4], axis=-1) == pytest.approx(
        1, abs=1e-5
    )
    if case is nothing:
        assert not fused.success.any()
        np.testing.assert_array_equal(fused.world_from_query.wxyz_xyz, np.eye(7)[[0] * BATCH])
    if case in (parallel, all_identical) and method == "paper":
        assert not fused.success.any()
        np.testing.assert_allclose(fused.world_from_query.translation(), db[:, 0, 4:], atol=1e-5)


def sums_of_distances(points, answers):
    return np.linalg.norm(answers - points[:, None], axis=-1).sum(axis=1)


def test_the_median_has_the_least_sum_of_distances(rng):
    """To the neighbours' own answers: no other point near it, and not SciPy, has less."""
    _, db, relative, _ = cameras(rng, Noise())
    fused = run(db, relative, method="median")
    turned = rotation_of(db.reshape(-1, 7)).apply(relative[..., 4:].reshape(-1, 3))
    answers = db[..., 4:] + turned.reshape(BATCH, COUNT, 3)
    found = np.asarray(fused.world_from_query.translation(), np.float64)
    best = np.stack(
        [
            scipy.optimize.minimize(
                lambda x, own=own: np.linalg.norm(own - x, axis=1).sum(),
                np.median(own, axis=0),
                method="Nelder-Mead",
                options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 2000},
            ).x
            for own in answers
        ]
    )
    ratio = sums_of_distances(found, answers) / sums_of_distances(best, answers)
    assert np.quantile(ratio, 0.9) < 1.001 and np.quantile(ratio, 0.97) < 1.02
    hypotheses = (rotation_of(db.reshape(-1, 7)) * rotation_of(relative.reshape(-1, 7))).as_matrix()
    of_query = hypotheses.reshape(BATCH, COUNT, 3, 3)
    wxyz = np.asarray(fused.world_from_query.wxyz_xyz)
    rotations = rotation_of(wxyz).as_matrix()
    cost = l1_cost_of(rotations, of_query)
    for _ in range(5):
        beside = (Rotation.from_rotvec(rng.normal(size=(BATCH, 3)) * 0.05)).as_matrix() @ rotations
        assert (l1_cost_of(beside, of_query) > cost - 1e-3).mean() > 0.95


def l1_cost_of(rotations, hypotheses):
    """The sum of the angles from each rotation to its hypotheses, radians."""
    cos = (np.einsum("bij,bnij->bn", rotations, hypotheses) - 1) / 2
    return np.arccos(np.clip(cos, -1, 1)).sum(axis=1)


def test_the_median_outvotes_two_wrong_neighbours_of_six(rng):
    query, db, relative, _ = cameras(rng, EXACT)
    relative[:, 1:3] = random_poses(rng, BATCH, 2)
    fused = run(db, relative, method="median")
    metres, degrees = deviation(fused, query)
    assert np.quantile(metres, 0.9) < 0.02 and degrees.max() < 0.1
    right = np.asarray(fused.location_inliers)[:, [0, 3, 4, 5]]
    assert fused.success.all() and right.mean() > 0.95


def test_normalised_translations_have_no_median(rng):
    _, db, relative, _ = cameras(rng, Noise(length="unit", outliers=0.0))
    assert not run(db, relative, method="median").success.any()


def test_no_translation_of_identical_neighbours_is_their_centre(rng):
    db = np.repeat(random_poses(rng, BATCH, 1), COUNT, axis=1)
    relative = np.broadcast_to(np.eye(7)[0], db.shape)
    fused = run(db, relative)
    np.testing.assert_allclose(fused.world_from_query.translation(), db[:, 0, 4:], atol=1e-3)
    assert fused.success.all()


def test_batch_axes_and_vmap_agree(rng):
    """Under vmap, each query comes without batch axes."""
    _, db, relative, _ = cameras(rng)
    together = run(db, relative)
    shape = jax.eval_shape(
        fuse, se3(db.reshape(8, 8, COUNT, 7)), se3(relative.reshape(8, 8, COUNT, 7))
    )
    assert shape.success.shape == (8, 8) and shape.position_covariance.shape == (8, 8, 3, 3)
    mapped = jax.vmap(fuse)(se3(db), se3(relative))
    metres, degrees = deviation(mapped, together)
    assert np.quantile(metres, 0.95) < 1e-3 and np.quantile(degrees, 0.95) < 0.05
    assert np.mean(mapped.location_inliers == together.location_inliers) > 0.99


def test_blocks_agree_with_one_batch(rng):
    _, db, relative, _ = cameras(rng, batch=BLOCKS)
    large = run(db, relative)
    small = run(db[1000:1064], relative[1000:1064])
    metres, degrees = deviation(jax.tree.map(lambda x: x[1000:1064], large), small)
    assert metres.max() < 5e-3 and degrees.max() < 0.05


@pytest.mark.parametrize("method", METHODS)
def test_float32_agrees_with_float64(rng, method):
    _, db, relative, _ = cameras(rng, Noise())
    single = run(db, relative, method=method)
    with jax.enable_x64(True):
        double = fuse(SE3(jnp.asarray(db)), SE3(jnp.asarray(relative)), method=method)
        assert double.world_from_query.wxyz_xyz.dtype == jnp.float64
        metres, degrees = deviation(single, double)
    assert np.quantile(metres, 0.9) < 2e-3 and np.quantile(degrees, 0.9) < 0.02


def total(db, relative, method):
    fused = run(db, relative, method=method)
    values = (fused.world_from_query.wxyz_xyz, fused.position_covariance, fused.rotation_std)
    return sum(jnp.sum(x) for x in values)


# Whether a number is finite does not depend on how machine code is optimized, which takes long.
gradients = jax.jit(
    jax.grad(total, argnums=(0, 1)),
    static_argnums=2,
    compiler_options={"xla_backend_optimization_level": 0},
)


@pytest.mark.parametrize(
    "case, method",
    [
        pytest.param(cameras, "paper", marks=pytest.mark.slow),
        pytest.param(cameras, "median", marks=pytest.mark.slow),
        *((case, "robust") for case in (cameras, *DEGENERATE)),
    ],
)
def test_gradients_are_finite(rng, case, method):
    db, relative = case(rng)[1:3] if case is cameras else case(rng)
    for gradient in gradients(*(jnp.asarray(x, jnp.float32) for x in (db, relative)), method):
        assert np.isfinite(gradient).all()
        if case is cameras:
            assert (np.abs(gradient).max(axis=(1, 2)) > 0).all()


def twenty_neighbours(rng):
    """Queries with more neighbours than all of whose hypotheses are tried, and two keys."""
    query, db, relative, _ = cameras(rng, Noise(outliers=0.3), batch=256, count=20)
    keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), 2)
    return query, db, relative, keys


def test_sampled_hypotheses_use_all_neighbours_and_the_key_decides_them(rng):
    query, db, relative, keys = twenty_neighbours(rng)
    first, again, other = (run(db, relative, key=key) for key in (keys[0], keys[0], keys[1]))
    np.testing.assert_array_equal(first.world_from_query.wxyz_xyz, again.world_from_query.wxyz_xyz)
    assert (first.world_from_query.wxyz_xyz != other.world_from_query.wxyz_xyz).any()
    few = []
    for i in range(0, len(db), BATCH):
        part = slice(i, i + BATCH)
        fused = run(db[part, :COUNT], relative[part, :COUNT])
        few.append(deviation(fused, query[part])[0])
    for sampled in (first, other):
        assert np.median(deviation(sampled, query)[0]) < 0.8 * np.median(few)


@pytest.mark.slow
def test_sampled_hypotheses_are_as_good_as_all(rng):
    query, db, relative, keys = twenty_neighbours(rng)
    everything = FusionConfig(sampling=Sampling(max_exhaustive=20))
    exhaustive = np.median(deviation(run(db, relative, config=everything), query)[0])
    for key in keys:
        sampled = run(db, relative, key=key)
        assert np.median(deviation(sampled, query)[0]) < 1.15 * exhaustive


def test_wrong_arguments_are_named(rng):
    db, relative = se3(np.zeros((4, 5, 7))), se3(np.zeros((4, 6, 7)))
    with pytest.raises(ValueError, match=r"\(4, 5\).*\(4, 6\)"):
        fuse(db, relative)
    with pytest.raises(ValueError, match=r"valid has shape \(5,\), the poses \(4, 5\)"):
        fuse(db, db, valid=jnp.ones(5, bool))
    with pytest.raises(ValueError, match="unknown method 'mean'; known: robust, paper, median"):
        fuse(db, db, method="mean")
    with pytest.raises(ValueError, match="N >= 1"):
        fuse(se3(np.zeros(7)), se3(np.zeros(7)))


MODEL = FusionConfig()
NOISY = Noise(direction_deg=15.0, rotation_deg=15.0, length=0.6, outliers=0.0)
CLEAN = Noise(direction_deg=2.0, rotation_deg=2.0, length=0.1, outliers=0.0)


def reliability(factor=1.0, prior=MODEL.rotation.inlier_prior) -> Reliability:
    """The model's own standard deviations times `factor`, of all neighbours or of each."""
    factor, prior = (jnp.broadcast_to(jnp.float32(x), (BATCH, COUNT)) for x in (factor, prior))
    model = MODEL.location
    stds = (MODEL.rotation.std_rad, model.direction_std, model.length_std)
    return Reliability(prior, *(std * factor for std in stds))


def unequal(rng):
    """Every other neighbour is seven times as noisy as the rest, and is said to be."""
    query, db = rooms(rng, BATCH, COUNT)
    noisy = np.arange(COUNT) % 2 == 1
    relative = np.where(
        noisy[None, :, None], predict(rng, db, query, NOISY)[0], predict(rng, db, query, CLEAN)[0]
    )
    return query, db, relative, reliability(np.where(noisy, 5.0, 0.7))


def test_the_models_own_reliability_changes_nothing(rng):
    _, db, relative, _ = cameras(rng)
    metres, degrees = deviation(run(db, relative), run(db, relative, reliability=reliability()))
    assert np.quantile(metres, 0.95) < 1e-3 and np.quantile(degrees, 0.95) < 0.01


@pytest.mark.slow
def test_equal_reliabilities_are_another_model(rng):
    """Stating twice the standard deviations is a model of twice the standard deviations."""
    _, db, relative, _ = cameras(rng, Noise(outliers=0.0))
    stated = reliability(2.0)
    stated = dataclasses.replace(stated, length_std=0.5 * stated.length_std)
    location, rotation = MODEL.location, MODEL.rotation
    wider = FusionConfig(
        location=LocationConfig(
            direction_std=2 * location.direction_std,
            search_direction_std=2 * location.search_direction_std,
            stated_direction_std=2 * location.stated_direction_std,
        ),
        rotation=RotationConfig(
            std_rad=2 * rotation.std_rad,
            start_std_rad=2 * rotation.start_std_rad,
            truncation_rad=2 * float(np.arcsin(2 * np.sin(rotation.truncation_rad / 2))),
        ),
    )
    metres, degrees = deviation(
        run(db, relative, reliability=stated), run(db, relative, config=wider)
    )
    assert np.quantile(metres, 0.95) < 1e-3 and np.quantile(degrees, 0.95) < 0.01


@pytest.mark.parametrize("how", ["endless deviations", "no chance of being right"])
def test_a_neighbour_that_is_said_to_know_nothing_does_not_count(rng, how):
    _, db, relative, _ = cameras(rng)
    relative[:, 2] = random_poses(rng, BATCH)
    third = np.arange(COUNT) == 2
    stated = (
        reliability(np.where(third, np.inf, 1.0))
        if how == "endless deviations"
        else reliability(prior=np.where(third, 0.0, MODEL.rotation.inlier_prior))
    )
    fused = run(db, relative, reliability=stated)
    without = run(db, relative, valid=jnp.broadcast_to(~third, (BATCH, COUNT)))
    metres, degrees = deviation(fused, without)
    assert np.quantile(metres, 0.8) < 0.01 and np.quantile(degrees, 0.8) < 0.05
    assert not fused.location_inliers[:, 2].any() and not fused.rotation_inliers[:, 2].any()


def test_a_reliability_that_is_no_number_counts_as_not_valid(rng):
    _, db, relative, _ = cameras(rng)
    third = np.arange(COUNT) == 2
    a = run(db, relative, reliability=reliability(np.where(third, np.nan, 1.0)))
    b = run(
        db, relative, reliability=reliability(), valid=jnp.broadcast_to(~third, (BATCH, COUNT))
    )
    np.testing.assert_array_equal(a.world_from_query.wxyz_xyz, b.world_from_query.wxyz_xyz)


def test_known_noise_lowers_the_error_and_is_stated(rng):
    """Medians of chi of 3 degrees of freedom are 1.54."""
    errors, plain, normalized = [], [], []
    for _ in range(8):
        query, db, relative, stated = unequal(rng)
        fused = run(db, relative, reliability=stated)
        errors.append(deviation(fused, query))
        plain.append(deviation(run(db, relative), query))
        offset = np.asarray(fused.world_from_query.translation()) - query[:, 4:]
        covariance = np.asarray(fused.position_covariance, np.float64)
        whitened = np.linalg.solve(covariance, offset[..., None])
        normalized.append([
            np.sqrt(np.sum(offset * whitened[..., 0], axis=-1)),
            np.deg2rad(errors[-1][1]) / np.asarray(fused.rotation_std),
        ])
    errors, plain, normalized = (
        np.median(np.concatenate(x, axis=1), axis=1) for x in (errors, plain, normalized)
    )
    assert (errors < 0.9 * plain).all()
    assert (normalized > 0.5 * 1.54).all() and (normalized < 2.0 * 1.54).all()


def test_a_reliability_that_does_not_fit_is_named():
    db = se3(np.zeros((4, 5, 7)))
    with pytest.raises(ValueError, match=r"length_std has shape \(5,\), the poses \(4, 5\)"):
        fuse(db, db, reliability=Reliability(length_std=jnp.ones(5)))
    for method in ("paper", "median"):
        with pytest.raises(ValueError, match=f"'{method}' knows no reliability, but inlier_prior"):
            fuse(db, db, reliability=Reliability(inlier_prior=jnp.ones((4, 5))), method=method)


def random_or_adversarial(rng, count):
    """Poses of very different sizes, with zeros, repetitions and extreme numbers among them."""
    values = rng.normal(size=(count, COUNT, 14)) * 10.0 ** rng.uniform(-6, 6, (count, COUNT, 1))
    values *= 10.0 ** rng.choice([0, 0, 0, -20, -38, 15, 30], (count, 1, 14))
    extremes = [0.0, 1.0, -1.0, 1e-38, -1e-45, 3.4e38, -3.4e38, 1e-20, 1e19]
    values = np.where(
        rng.uniform(size=values.shape) < 0.1, rng.choice(extremes, values.shape), values
    )
    values[::5, 1] = values[::5, 0]
    values[::7] = np.round(np.clip(values[::7], -2, 2))
    values[::11, :, 11:] = 0
    values = np.clip(values, -3.4e38, 3.4e38).astype(np.float32)
    return values[..., :7], values[..., 7:], rng.uniform(size=(count, COUNT)) < 0.9


def assert_no_nan(rng, num_batches):
    for _ in range(num_batches):
        db, relative, valid = random_or_adversarial(rng, BLOCKS)
        for method in METHODS:
            fused = run(db, relative, valid=jnp.asarray(valid), method=method)
            for leaf in jax.tree.leaves(fused):
                assert np.isfinite(leaf).all()


def test_no_nan_for_random_and_adversarial_input(rng):
    assert_no_nan(rng, 15)


@pytest.mark.slow
def test_no_nan_for_a_million_inputs(rng):
    assert_no_nan(rng, 1_000_000 // BLOCKS + 1)


@pytest.fixture
def university(shared_data):
    return fusion_accuracy.university(str(shared_data / "aalto_pairs" / "NN_university.txt"))


def spread_deg(rotations):
    """The largest angle between two of the rotations."""
    return max(np.degrees((a.inv() * rotations).magnitude()).max() for a in rotations)


def is_local_minimum(mean, rotations, rng):
    """No small turn in 50 random directions lowers the L1 cost noticeably."""
    turns = rng.normal(size=(50, 3))
    turns *= np.radians(0.5) / np.linalg.norm(turns, axis=1, keepdims=True)
    costs = [l1_cost(mean * Rotation.from_rotvec(turn), rotations) for turn in turns]
    return l1_cost(mean, rotations) < min(costs) + 1e-4


def agreement(rng, db, relative, count):
    """Shares of `count` queries (None: all) that agree with the reference to 1 cm, and 0.1 deg."""
    fused = run(np.float32(db), np.float32(relative), method="paper")
    rows = rng.permutation(len(db))[:count]
    expected = [fuse_paper(db[i], relative[i], "chordal") for i in rows]
    q_wxyz = np.stack([x.rotation.as_quat(scalar_first=True) for x in expected])
    position = np.stack([x.position for x in expected])
    fused = jax.tree.map(lambda x: np.asarray(x)[rows], fused)
    metres, degrees = deviation(fused, np.concatenate([q_wxyz, position], axis=-1))
    return np.mean(metres < 0.01), np.mean(degrees < 0.1)


def test_paper_agrees_with_the_authors_script_in_random_rooms(rng):
    _, db, relative, _ = cameras(rng, Noise(), batch=BLOCKS)
    same_location, same_rotation = agreement(rng, db, relative, 300)
    assert same_location >= 0.97 and same_rotation >= 0.99


@pytest.mark.parametrize("count", [600, pytest.param(None, marks=pytest.mark.slow, id="all")])
def test_paper_agrees_with_the_authors_script_on_their_pairs(rng, university, count):
    relative, _ = predict(rng, university.world_from_db, university.world_from_query, Noise())
    same_location, same_rotation = agreement(rng, university.world_from_db, relative, count)
    assert same_location >= 0.99 and same_rotation >= 0.99


def test_paper_with_the_l1_mean_agrees_with_its_reference(rng, university):
    """To 1 mm and 0.05 deg but for ties: an inlier test on its limit, two means of one cost.

    In float64 every query; in float32 those whose directions are not nearly parallel. The L1 mean
    is unique within a ball of 90 deg (Hartley et al., IJCV 2013); beyond it, any minimum will do.
    """
    relative, _ = predict(rng, university.world_from_db, university.world_from_query, Noise())
    db = np.asarray(university.world_from_db, np.float64)
    config = FusionConfig(paper_rotation_mean="l1")
    single = run(np.float32(db), np.float32(relative), method="paper", config=config)
    single = np.asarray(single.world_from_query.wxyz_xyz)
    with jax.enable_x64(True):
        fused = fuse(
            SE3(jnp.asarray(db)), SE3(jnp.asarray(relative)), method="paper", config=config
        )
        fused = np.asarray(fused.world_from_query.wxyz_xyz)
    rounding_m = []
    for i in rng.permutation(len(db))[:150]:
        expected = fuse_paper(db[i], relative[i], "l1")
        if expected.margin_deg < 1e-3:
            continue
        np.testing.assert_allclose(fused[i, 4:], expected.position, atol=1e-3)
        found = Rotation.from_quat(fused[i, :4], scalar_first=True)
        degrees = np.degrees((found.inv() * expected.rotation).magnitude())
        tied = expected.tied_rotations
        if degrees >= 0.05 and l1_cost(found, tied) >= expected.l1_cost_rad + 5e-6:
            assert spread_deg(tied) > 90 and is_local_minimum(found, tied, rng)
        rounding_m.append(np.linalg.norm(single[i, 4:] - expected.position))
    # Nearly parallel directions cross where rounding to float32 puts them.
    assert np.quantile(rounding_m, 0.98) < 1e-3


def test_robust_beats_the_study_on_every_university_scene(rng, university):
    robust = fusion_accuracy.measure(university, Noise(), rng).robust
    medians = [np.median(robust.position_m[university.scene == s]) for s in range(4)]
    assert (np.array(medians) < [0.08, 0.35, 0.10, 0.45]).all(), medians
    assert np.median(robust.rotation_deg) < 4.9


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 5, 10, 20])
def test_robust_loses_to_paper_in_no_noise_setting(rng, university, count):
    """But where a lone neighbour's length is useless, which nothing can show.

    And states its error: the median normalised squared error of all queries of the grid is within
    a factor 2 of its theoretical value.
    """
    chosen = fusion_accuracy.with_neighbors(university, count, rng)
    cells = [fusion_accuracy.measure(chosen, noise, rng) for noise in fusion_accuracy.grid()]
    hopeless = ("random",) if count == 1 else ()
    lost = [c.noise for c in cells if c.loses() and c.noise.length not in hopeless]
    assert not lost
    assert not [c.noise for c in cells if c.loses_rotation()]
    for name in ("position_squared", "rotation_squared"):
        pooled = np.concatenate([getattr(c.robust, name) for c in cells])
        assert 0.5 < np.median(pooled) / fusion_accuracy.MEDIAN_CHI2 < 2.0


@pytest.mark.slow
@pytest.mark.parametrize("method, largest_deg", [("paper", 4.5), ("robust", 2.0)])
def test_64_neighbours(rng, method, largest_deg):
    query, db, relative, _ = cameras(rng, Noise(), batch=64, count=64)
    fused = run(db, relative, method=method)
    assert fused.success.all() and fused.location_inliers.shape == (64, 64)
    metres, degrees = deviation(fused, query)
    assert np.median(metres) < 0.1 and np.median(degrees) < largest_deg
