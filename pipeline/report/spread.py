"""How numbers are spread over a run: counts in fixed classes, as the page draws them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import inf

import numpy as np
import pyarrow.compute as pc

from pipeline.report.light_rows import LightRows
from pipeline.run.counts import FAILED
from pipeline.run.markers import Marker
from pipeline.words import rate

LEAST_COMMITS = 4
MOST_INTERVALS = 24


MEASURES: dict[str, tuple[str, list[float]]] = {
    "size": ("Size of the crop in the photo, px", [0, 32, 64, 128, 256, 512, 1024, inf]),
    "score": ("Detector's score", [*(n / 10 for n in range(10)), inf]),
    "mask_share": ("Share of the crop with normals", [*(n / 10 for n in range(10)), inf]),
    "points_sigma": ("Uncertainty of the points", [*(n / 100 for n in range(10)), inf]),
}
"""Number of a face -> what it is, and the borders of its classes; what is below counts to the first."""

MOST_FACES = 5
"""From so many faces on photos are counted together."""


@dataclass
class Spread:
    """Counts of a number in classes.

    Attributes:
        title: What is counted.
        labels: Of the classes.
        counts: In each.
    """

    title: str
    labels: Sequence[str]
    counts: Sequence[float]

    @property
    def words(self) -> str:
        """The same as text, for those who do not see it."""
        counted = zip(self.labels, self.counts, strict=True)
        return f"{self.title}. " + ", ".join(f"{label}: {count:,.0f}" for label, count in counted)


class Spreads:
    """Adds up the numbers of records, however many there are."""

    def __init__(self) -> None:
        self._photos = np.zeros(MOST_FACES + 1, np.int64)
        self._faces = {name: np.zeros(len(edges) - 1, np.int64) for name, (_, edges) in MEASURES.items()}

    def add(self, some: LightRows, rows: np.ndarray, faces: np.ndarray) -> None:
        """Adds some records.

        Args:
            some: The records.
            rows: (R,) bool, which of them count.
            faces: (F,) bool, which of their faces do.
        """
        failed = pc.equal(some.batch["status"], FAILED).to_numpy(zero_copy_only=False)
        decoded = rows & ~failed
        self._photos += np.bincount(np.minimum(some.faces[decoded], MOST_FACES), minlength=MOST_FACES + 1)
        for name, (_, edges) in MEASURES.items():
            numbers = some.of_face[name][faces]
            numbers = np.maximum(numbers[~np.isnan(numbers)], edges[0])
            self._faces[name] += np.histogram(numbers, edges)[0]

    def spreads(self) -> list[Spread]:
        """Returns those that hold something."""
        labels = [f"{number}" for number in range(MOST_FACES)] + [f"{MOST_FACES} or more"]
        found = [Spread("Faces in a record", labels, self._photos.tolist())]
        for name, (title, edges) in MEASURES.items():
            labels = [_label(low, high) for low, high in pairwise(edges)]
            found.append(Spread(title, labels, self._faces[name].tolist()))
        return [spread for spread in found if any(spread.counts)]


def pace(markers: Sequence[Marker], started: str) -> Spread | None:
    """Returns the photos a minute of a run in equal intervals; None where too little is known.

    Args:
        markers: Of the committed shards.
        started: When the run began, as an ISO time.
    """
    commits = [marker for marker in markers if marker.committed]
    if len(commits) < LEAST_COMMITS:
        return None
    times = np.array([datetime.fromisoformat(marker.committed).timestamp() for marker in commits])
    times -= datetime.fromisoformat(started).timestamp()
    if times.min() < 0 or times.max() <= 0:
        return None
    intervals = min(MOST_INTERVALS, len(commits) // 2)
    images = [marker.counts.images for marker in commits]
    minutes = times.max() / 60 / intervals
    counts = np.histogram(times / 60, intervals, (0, minutes * intervals), weights=images)[0]
    labels = [f"minute {rate(minutes * number)}" if number else "start" for number in range(intervals)]
    return Spread("Photos a minute, from start to end", labels, (counts / minutes).tolist())


def _label(low: float, high: float) -> str:
    return f"{low:g} or more" if high == inf else f"{low:.4g} to {high:.4g}"
