"""The pairs of views whose features the pair head is trained on, as `config.data` says."""

import pathlib
from collections.abc import Callable, Iterator, Sequence

import jax
import ml_collections
import numpy as np

from jaxreloc.data.pairing.mined_pairs import Pairs, mine_pairs, wxyz_xyz
from jaxreloc.formats.rigid_arrays import inverse
from jaxreloc.models.build import NetworkConfig
from jaxreloc.models.weights.backbone_weights import DEFAULT
from jaxreloc.training.inputs.batch_plan import BatchPlan
from jaxreloc.training.inputs.pair_inputs import PairSet, load_frames, pair_target
from jaxreloc.training.inputs.views.view_features import ViewFeatures, ViewSettings, view_features
from jaxreloc.usage import UsageError

NEEDED = ("views", "turn_deg", "move_m", "features_dir", "image_size")  # of config.data


class ViewLoader:
    """Iterates batches of pairs of views, dicts of arrays:

      db_features, query_features: float16 [B, ...], all that the head sees of a view.
      db_from_query: float32 [B, 7], `wxyz_xyz`: unit quaternion with w >= 0, then the query's
        centre in the database view's axes, metres.
      mask: bool [B], False on the padding of the last evaluation batch.
      pair_index: int64 [B], into the pairs; -1 on padding.

    In training pairs are drawn with replacement, without end; each with a random view of either
    image and in a random order of the two. In evaluation the pairs come once, in their own order,
    with the images as they are. What a batch has depends on the seed and the step alone.
    """

    def __init__(
        self,
        features: Sequence[ViewFeatures],
        pairs: Pairs,
        *,
        batch_size: int,
        train: bool,
        seed: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ):
        """
        Args:
          features: of each scene.
          batch_size: pairs in the global batch, divided evenly over the processes.

        Raises:
          UsageError: no pairs, or a batch that does not divide.
        """
        if not len(pairs):
            raise UsageError("no pairs to load; mine some, or give more scenes")
        self._plan = BatchPlan(
            len(pairs),
            batch_size=batch_size,
            train=train,
            seed=seed,
            process_index=process_index,
            process_count=process_count,
        )
        self._features = np.concatenate([x.features for x in features])
        self._cam_from_view = np.concatenate([x.cam_from_view for x in features])
        first = np.cumsum([0] + [len(x.features) for x in features[:-1]])[pairs.scene]
        self._frames = np.stack([first + pairs.db, first + pairs.query])
        self._pairs, self._train = pairs, train

    def __len__(self) -> int:
        """Batches that hold as many pairs as there are."""
        return len(self._plan)

    def batches(self, start_step: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Batches from `start_step` on: the same ones as an iteration from 0 reaches there."""
        size, rows = self._plan.batch_size, self._plan.rows
        for step, rng in self._plan.steps(start_step):
            if self._train:
                index = rng.integers(len(self._pairs), size=size)
                views = rng.integers(self._features.shape[1], size=(2, size))
                swapped = rng.integers(2, size=size).astype(bool)
            else:
                index = self._plan.in_order(step)
                views, swapped = np.zeros((2, size), int), np.zeros(size, bool)
            yield self._batch(index[rows], views[:, rows], swapped[rows])

    def _batch(
        self, index: np.ndarray, views: np.ndarray, swapped: np.ndarray
    ) -> dict[str, np.ndarray]:
        frames = self._frames[:, index]
        db_view, query_view = self._cam_from_view[frames, views]
        poses = inverse(db_view) @ self._pairs.db_from_query[index] @ query_view
        poses = np.where(swapped[:, None, None], inverse(poses), poses)
        db, query = self._features[frames, views]
        wide = swapped.reshape(-1, *[1] * (db.ndim - 1))
        return {
            "db_features": np.where(wide, query, db),
            "query_features": np.where(wide, db, query),
            "db_from_query": wxyz_xyz(poses),
            "mask": index >= 0,
            "pair_index": index,
        }


def _check(config: ml_collections.ConfigDict) -> None:
    """Raises UsageError where a config does not say what the task needs, or says another thing."""
    data, model, remedy = config.data, config.model, "take --config=configs/pairs.py:seven"
    if missing := [f"data.{name}" for name in NEEDED if data.get(name) is None]:
        raise UsageError(f"config.task=head needs {', '.join(missing)}; {remedy}")
    wanted = {"head": "concat", "pretrained": DEFAULT}
    for name, value in wanted.items():
        if model.get(name) != value:
            raise UsageError(
                f"config.task=head trains on features of ImageNet's weights, with "
                f"model.{name}={value} and not {model.get(name)}; {remedy}"
            )
    if "backbone" not in config.optimizer.get("frozen", ()):
        raise UsageError(
            "config.task=head leaves the backbone as it is, and optimizer.frozen has to name "
            f"it; {remedy}"
        )


def load_view_pairs(
    config: ml_collections.ConfigDict, say: Callable[[str], None]
) -> tuple[PairSet, PairSet]:
    """Training pairs (without end) and validation pairs (once through).

    The loaders give this process's share of each global batch.

    Raises:
      UsageError: the data is not there, or its features cannot be kept.
    """
    _check(config)
    data = config.data
    for name in ("pair_list", "validation_pair_list"):
        if data.get(name) is not None:
            say(f"note: data.{name} is not used; the task head draws pairs of its own")
    target = pair_target(data)
    settings = ViewSettings(
        image_size=tuple(data.image_size),
        views=data.views,
        turn_deg=tuple(data.turn_deg),
        move_m=tuple(data.move_m),
        jitter=data.jitter,
        backbone=config.model.backbone,
        grid=NetworkConfig.parse(config.model).grid,
        seed=0,
    )
    folder = pathlib.Path(data.features_dir).expanduser() / data.dataset.replace("/", "-")

    def pair_set(split: str, count: int, seed: int, train: bool) -> PairSet:
        scenes = load_frames(data, split)
        pairs = mine_pairs(scenes, num_pairs=count, target=target, seed=seed)
        loader = ViewLoader(
            [view_features(frames, settings, folder, say) for frames in scenes],
            pairs,
            batch_size=config.batch_size,
            train=train,
            seed=seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        return PairSet(scenes, pairs, loader)

    return (
        pair_set(data.train_split, data.num_pairs, 2 * config.seed, True),
        pair_set(data.validation_split, data.num_validation_pairs, 2 * config.seed + 1, False),
    )

