"""Relative pose from matches, beside PoseLib on the same matches.

    python -m benchmarks.speed.relative_pose_speed [--pairs 100] [--seed 0]

Planted poses at f = 400 px, 640 x 480, 600 matches, 1 px of noise in both images, threshold 3 px.
Prints median errors (rotation / direction, degrees), their ratio, and milliseconds a pair on one
core (batches of 5 pairs; PoseLib runs one pair at a time, as it does).
"""

import argparse
import functools
import time

import jax
import numpy as np
import poselib
from tabulate import tabulate

from jaxreloc.compilation import compiler_options
from jaxreloc.geometry.relative_pose import estimate_relative_pose
from tests.geometry.planted_matches import FOCAL_PX, planted_pair, pose_errors_deg

THRESHOLD_PX = 3.0
BATCH = 5
CASES = [
    ("room", "depth"), ("orbit", "depth"), ("roll", "depth"), ("forward", "depth"),
    ("small", "depth"), ("room", "planar"), ("orbit", "planar"),
]
CAMERA = {"model": "SIMPLE_PINHOLE", "width": 640, "height": 480, "params": [FOCAL_PX, 0, 0]}


def ours(pairs):
    errors, seconds = [], 0.0
    key = jax.random.key(0)
    for i in range(0, len(pairs), BATCH):
        batch = pairs[i : i + BATCH]
        x_query = np.stack([pair.x_query for pair in batch])
        x_db = np.stack([pair.x_db for pair in batch])
        weights = np.ones(x_query.shape[:2], np.float32)
        if i == 0:  # compile
            jax.block_until_ready(_estimate_function()(x_query, x_db, weights, key=key))
        begin = time.perf_counter()
        found = _estimate_function()(x_query, x_db, weights, key=key).db_from_query
        matrices = np.asarray(found.as_matrix())
        seconds += time.perf_counter() - begin
        errors += [
            pose_errors_deg(m[:3, :3], m[:3, 3], pair)
            for m, pair in zip(matrices, batch, strict=True)
        ]
    return np.median(errors, axis=0), 1e3 * seconds / len(pairs)


def theirs(pairs):
    errors, seconds = [], 0.0
    for pair in pairs:
        query, db = (FOCAL_PX * x.astype(float) for x in (pair.x_query, pair.x_db))
        begin = time.perf_counter()
        pose, _ = poselib.estimate_relative_pose(
            query, db, CAMERA, CAMERA, {"max_epipolar_error": THRESHOLD_PX}, {}
        )
        seconds += time.perf_counter() - begin
        errors.append(pose_errors_deg(pose.R, pose.t, pair))
    return np.median(errors, axis=0), 1e3 * seconds / len(pairs)


@functools.cache
def _estimate_function():
    estimate = functools.partial(estimate_relative_pose, threshold=THRESHOLD_PX / FOCAL_PX)
    return jax.jit(estimate, compiler_options=compiler_options.wide_vectors())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100, help="a multiple of 5")
    parser.add_argument("--seed", type=int, default=0, help="of the planted pairs")
    arguments = parser.parse_args()
    rows = []
    for outliers in (0.0, 0.3, 0.6):
        for motion, scene in CASES:
            rng = np.random.default_rng(arguments.seed)
            pairs = [
                planted_pair(rng, motion, scene, outliers=outliers)
                for _ in range(arguments.pairs)
            ]
            (mine, my_ms), (other, other_ms) = ours(pairs), theirs(pairs)
            rows.append([
                motion, scene, f"{outliers:.0%}", f"{mine[0]:.3f} / {mine[1]:.3f}",
                f"{other[0]:.3f} / {other[1]:.3f}", *(mine / other), my_ms, other_ms,
                other_ms / my_ms,
            ])
    headers = ["motion", "scene", "outliers", "jaxreloc, deg", "PoseLib, deg", "rotation ratio",
               "direction ratio", "jaxreloc, ms", "PoseLib, ms", "speed ratio"]
    print(tabulate(rows, headers, floatfmt=".2f"))


if __name__ == "__main__":
    main()
