"""Medians over every validation pair, and pictures in the camera's axes."""

import jax
import jaxlie
import numpy as np
import optax
import pytest
from flax import jax_utils

from jaxreloc.training import step
from jaxreloc.training.inputs import pair_inputs
from jaxreloc.training.losses.pose_losses import PairLoss
from jaxreloc.training.monitoring.epipolar_lines import draw_pair
from jaxreloc.training.monitoring.validation import validate
from jaxreloc.training.state import create_state
from jaxreloc.training.tasks.pose_task import NUM_PICTURES, PoseTask
from tests.training import tiny


@pytest.fixture
def pairs(tiny_run):
    """Eleven pairs in batches of eight: the last one is padded."""
    _, validation_pairs = pair_inputs.load_pairs(tiny.config())
    assert len(validation_pairs.pairs) == 11
    return validation_pairs


def task(world_axes=False):
    return PoseTask(tiny.network(step.AXIS), PairLoss(), world_axes)


def oracle(offset=0.0):
    """A validation step that knows the true poses, off by `offset` metres along x."""

    def fake_step(state, batch):
        del state
        predicted = np.array(batch["db_from_query"])
        predicted[..., 4] += offset
        number = np.arange(predicted.shape[1], dtype=np.float32)[None]
        errors = {"loss": number, "position_error": number, "rotation_error": number / 100}
        same = {name: batch[name] for name in ("mask", "pair_index")}
        return errors | same | {"predicted_wxyz_xyz": predicted}

    return fake_step


def test_every_pair_counts_once_and_padding_never(pairs):
    result = validate(task(), oracle(), None, pairs)
    numbers = np.r_[np.arange(8), np.arange(3)]
    assert result.loss == pytest.approx(np.mean(numbers))
    assert result.position_error_m == pytest.approx(np.median(numbers))
    assert result.rotation_error_deg == pytest.approx(np.degrees(np.median(numbers) / 100))
    assert str(result) == "loss 2.818, 2.000 m, 1.15 deg"
    assert result.figures().keys() == {"loss", "position_error_m", "rotation_error_deg"}


def test_pictures_show_the_first_pairs(pairs):
    result = validate(task(), oracle(0.3), None, pairs)
    batch = next(iter(pairs.loader.batches()))
    true = batch["db_from_query"][1]
    expected = draw_pair(
        *(
            batch[name][1]
            for name in ("db_image", "query_image", "db_intrinsics", "query_intrinsics")
        ),
        true,
        true + np.float32([0, 0, 0, 0, 0.3, 0, 0]),
    )
    size = tiny.IMAGE_SIZE
    assert result.pictures.shape == (NUM_PICTURES * size, 2 * size, 3)
    np.testing.assert_array_equal(result.pictures[size : 2 * size], expected)


def test_labels_in_world_axes_give_the_same_true_lines(tiny_run):
    pictures = []
    for frame in ("camera", "world"):
        config = tiny.config()
        config.data.translation_frame = frame
        _, pairs = pair_inputs.load_pairs(config)
        result = validate(task(frame == "world"), oracle(), None, pairs)
        pictures.append(result.pictures.astype(int))
    # The rounding of a line's ends may differ by a pixel here and there.
    assert np.mean(np.abs(pictures[0] - pictures[1]) > 30) < 0.01


def test_errors_are_those_of_the_network(pairs):
    state = create_state(tiny.variables(), PairLoss(), optax.sgd(1.0))
    replicated = jax_utils.replicate(state, axis_name=step.AXIS)
    result = validate(task(), step.make_validation_step(task()), replicated, pairs)
    errors = []
    for batch in pairs.loader.batches():
        images = batch["db_image"], batch["query_image"]
        intrinsics = batch["db_intrinsics"], batch["query_intrinsics"]
        pose = tiny.network(step.AXIS).apply(state.network_variables(), *images, *intrinsics, False)
        target = jaxlie.SE3(batch["db_from_query"])
        error = np.linalg.norm(pose.t - target.translation(), axis=1)
        errors.append(error[batch["mask"]])
    assert result.position_error_m == pytest.approx(np.median(np.concatenate(errors)), rel=1e-5)
    assert jax.device_count() == 1
