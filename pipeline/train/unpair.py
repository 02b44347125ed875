"""Paired rows taken apart: how well would a network learn if there were few pairs?

Real photos with true normals are rare, photos and normal maps alone are not. To see what the unpaired passes
give, a set of pairs stands in for that: some rows stay paired, of the others only one half is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import DataError
from pipeline.train.config import Unpaired
from pipeline.train.data import IMAGE, NORMALS, PAIRED, RowGroup


def limit_pairs(groups: Sequence[RowGroup], limit: int, unpaired: Unpaired = "none") -> list[RowGroup]:
    """Keeps `limit` paired rows, spread evenly, and takes the other pairs apart.

    The others are dealt in turn: the first gives its image, the second its normals, the third its image ...
    "images" uses the ones, "normals" the others, "both" all of them; what is not used is left out. So no row
    shows an image here and the normals of that image there, and the choices differ by nothing but what they
    add. Rows that were unpaired before stay as they are.

    Raises:
        DataError: There are fewer than `limit` paired rows.
    """
    total = sum(int((group.kinds == PAIRED).sum()) for group in groups)
    if total < limit:
        raise DataError(f"data.paired_limit is {limit}, and there are {total} paired rows.")
    position = np.arange(total)
    stays = (position + 1) * limit // total > position * limit // total
    is_image = np.cumsum(~stays) % 2 == 1
    used_images = IMAGE if unpaired in ("images", "both") else 0
    used_normals = NORMALS if unpaired in ("normals", "both") else 0
    new = np.where(stays, PAIRED, np.where(is_image, used_images, used_normals)).astype(np.uint8)
    result, start = [], 0
    for group in groups:
        rows = np.flatnonzero(group.kinds == PAIRED)
        kinds = group.kinds.copy()
        kinds[rows] = new[start : start + len(rows)]
        start += len(rows)
        result.append(RowGroup(group.filesystem, group.path, group.index, group.records, kinds))
    return result
