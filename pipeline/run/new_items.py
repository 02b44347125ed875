"""What of an input is not in a plan yet."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow.parquet as pq

from pipeline.images.items import ListedItem
from pipeline.run.plan import Plan, file_names
from pipeline.run.plan_photos import batched, open_photos
from pipeline.storage.store import Store


class NewItems:
    """Iterates over the items of a listing that are not in a plan.

    Holds 9 bytes per item of the plan, and 8 more per photo where items have several.

    Attributes:
        count: Items that are new.
        changed: Items of the plan that have photos which are not in it.
    """

    BATCH = 4096

    def __init__(self, store: Store, plan: Plan, listed: Iterable[ListedItem]):
        self._listed = listed
        self._ids = plan_ids(store, plan, "item")
        self._photo_ids = None if plan.images == plan.items else plan_ids(store, plan, "id")
        self._seen = np.zeros(len(self._ids), bool)
        self.count = 0
        self.changed = 0

    @property
    def vanished(self) -> int:
        """Items of the plan that the listing, when it has ended, did not have."""
        return len(self._seen) - int(np.count_nonzero(self._seen))

    def __iter__(self) -> Iterator[ListedItem]:
        """Yields the new items, in the order of the listing."""
        for batch in batched(self._listed, self.BATCH):
            ids = np.fromiter((item.id for item in batch), np.int64, len(batch))
            places = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
            known = self._ids[places] == ids
            self._seen[places[known]] = True
            self.count += len(batch) - int(np.count_nonzero(known))
            if self._photo_ids is not None:
                self.changed += sum(
                    not np.isin([photo.id for photo in item.photos], self._photo_ids).all()
                    for item, is_known in zip(batch, known, strict=True)
                    if is_known
                )
            yield from (item for item, is_known in zip(batch, known, strict=True) if not is_known)


def plan_ids(store: Store, plan: Plan, column: str) -> np.ndarray:
    """Returns the ids of all photos of a plan, or of all items, sorted and each once: (N,) int64."""
    ids = [np.empty(0, np.int64)]
    for name in file_names(plan):
        with open_photos(store, name) as file:
            ids.append(pq.read_table(file, columns=[column])[column].to_numpy())
    return np.unique(np.concatenate(ids))
