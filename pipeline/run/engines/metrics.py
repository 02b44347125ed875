"""Metrics of a run for Prometheus, through the export of the Ray cluster that it runs on.

The driver feeds them from the counts of every chunk that is written, so they cost the workers nothing. Ray
puts `ray_` before the names. What they are for is in cluster/README.md, a dashboard in cluster/grafana.json.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ray.util.metrics import Counter, Gauge

from pipeline.run.counts import FAILED, Counts

log = logging.getLogger(__name__)

COUNTERS = {
    "facet_photos_total": ("Photos whose records are written, by status and error code.", ("status", "code")),
    "facet_found_total": ("What was found in the photos, such as faces.", ("kind",)),
    "facet_bytes_read_total": ("Bytes of the photos' files.", ()),
    "facet_stage_seconds_total": (
        "Seconds of work on each stage, all workers added up.",
        ("stage",),
    ),
    "facet_shards_total": ("Shards committed.", ()),
}
"""Name -> description and labels of what only grows. They begin at 0 with every start of the command."""

GAUGES = {
    "facet_photos_left": "Photos of the run that wait or are in work.",
    "facet_photos_uncommitted": "Photos written whose shard is not committed: done again after a kill.",
}
"""Name -> description of what goes up and down."""


class RunMetrics:
    """The metrics of one run, in the driver of a Ray cluster; safe to use from several threads.

    Nothing here fails or waits: where Ray exports nothing, the numbers go nowhere.
    """

    def __init__(self, photos: int, counter: Callable[..., Counter] = Counter):
        self._left = photos
        self._uncommitted = 0
        self._lock = threading.Lock()
        self._counters = {name: counter(name, text, tags) for name, (text, tags) in COUNTERS.items()}
        self._gauges = {name: Gauge(name, text) for name, text in GAUGES.items()}
        self._set_gauges()

    def add(self, counts: Counts) -> None:
        """Notes that a chunk is written."""
        with _harmless(), self._lock:
            for status, images in counts.statuses.items():
                if status != FAILED:
                    self._grow("facet_photos_total", images, status=status, code="")
            for code, images in counts.error_codes.items():
                self._grow("facet_photos_total", images, status=FAILED, code=code)
            for stage, seconds in counts.seconds.items():
                self._grow("facet_stage_seconds_total", seconds, stage=stage)
            for kind, number in counts.found.items():
                self._grow("facet_found_total", number, kind=kind)
            self._grow("facet_bytes_read_total", counts.bytes_read)
            self._left -= counts.images
            self._uncommitted += counts.images
            self._set_gauges()

    def commit(self, counts: Counts) -> None:
        """Notes that a shard is committed."""
        with _harmless(), self._lock:
            self._grow("facet_shards_total", 1)
            self._uncommitted -= counts.images
            self._set_gauges()

    def _grow(self, name: str, by: float, **tags: str) -> None:
        if by > 0:  # Ray refuses to add nothing
            self._counters[name].inc(by, tags)

    def _set_gauges(self) -> None:
        self._gauges["facet_photos_left"].set(self._left)
        self._gauges["facet_photos_uncommitted"].set(self._uncommitted)


@contextmanager
def _harmless() -> Iterator[None]:
    # A run of hours is worth more than its metrics.
    try:
        yield
    except Exception:
        log.exception("A metric could not be set.")
