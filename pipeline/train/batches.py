"""Batches of a pass, decoded and augmented by threads while the network computes.

NumPy and OpenCV release Python's lock for their work, so that threads are enough and nothing is copied
between processes. Batch n of a pass is a function of (data, seed, n): its rows come from `RowOrder`, its
random changes from a generator seeded by (seed, pass, position). Where a run stops does not matter.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import NamedTuple

import numpy as np

from pipeline.errors import DataError
from pipeline.processes import map_ahead
from pipeline.regions import Region
from pipeline.samples.batch import Batch, collate, float_normals
from pipeline.samples.sample import Sample
from pipeline.synth.loose import draw_border, end_photo
from pipeline.train import augment
from pipeline.train.config import AugmentConfig
from pipeline.train.data import GroupCache, RowOrder

BatchStream = Iterator[tuple[int, Batch]]
"""Endless pairs of the position behind a batch and the batch."""


class WorkerShare(NamedTuple):
    """Which worker of how many."""

    rank: int = 0
    world: int = 1


def augment_sample(
    sample: Sample, rng: np.random.Generator, config: AugmentConfig, strength: float = 1.0
) -> Sample:
    """Draws one random change of a sample; image and labels stay aligned. Landmarks are dropped."""
    shape = sample.image if sample.image is not None else sample.normals
    assert shape is not None
    matrix = augment.draw_affine(rng, config, shape.shape[0], strength)
    image, normals, regions = sample.image, float_normals(sample), sample.regions
    if image is not None:
        image = augment.change_light(augment.warp_image(image, matrix), rng, config, strength)
    if normals is not None:
        normals = augment.warp_normals(normals, matrix)
    if regions is not None:
        regions = augment.warp_regions(regions, matrix)
        if normals is not None and not sample.has_regions:
            regions = np.where(normals.any(-1), Region.SKIN, Region.IGNORE).astype(np.uint8)
    if border := draw_border(rng, config.border * strength):
        beyond = border.beyond(len(shape))
        image = end_photo(image, border) if image is not None else None
        for labels in (normals, regions):
            if labels is not None:
                labels[beyond] = 0
    return Sample(sample.id, image, normals, regions, sample.has_regions)


class PassStream:
    """Endless batches of the rows of one pass.

    Args:
        order: The order of the rows.
        cache: Decoded row groups.
        change: Makes the training sample from the decoded one; gets a generator of its own.
        seed: Seeds the generator together with the position.
        batch_size: Rows per batch.
        image: Whether the batches hold images.
        normals: Whether the batches hold normals.
    """

    def __init__(
        self,
        *,
        order: RowOrder,
        cache: GroupCache,
        change: Callable[[Sample, np.random.Generator], Sample],
        seed: Sequence[int],
        batch_size: int,
        image: bool,
        normals: bool,
    ):
        self._order = order
        self._cache = cache
        self._change = change
        self._seed = list(seed)
        self._batch_size = batch_size
        self._image = image
        self._normals = normals

    def batch(self, position: int) -> Batch:
        """Makes the batch whose first row is at a position of the order."""
        samples = [self._sample(position + i) for i in range(self._batch_size)]
        return collate(samples, self._image, self._normals)

    def batches(self, position: int, pool: ThreadPoolExecutor, ahead: int) -> Iterator[tuple[int, Batch]]:
        """Yields (position behind the batch, batch) without end, `ahead` batches being made meanwhile."""
        starts = count(position, self._batch_size)
        return map_ahead(lambda start: pool.submit(self._behind_and_batch, start), starts, ahead)

    def _behind_and_batch(self, position: int) -> tuple[int, Batch]:
        return position + self._batch_size, self.batch(position)

    def _sample(self, position: int) -> Sample:
        # A bad row is replaced by the next good one, so that batches keep their size and positions.
        for offset in range(self._order.length):
            group, row = self._order[position + offset]
            sample = self._cache(group)[row]
            if sample is not None:
                return self._change(sample, np.random.default_rng([*self._seed, position]))
        raise DataError("Not one row of the training data can be used; the log names the reasons.")
