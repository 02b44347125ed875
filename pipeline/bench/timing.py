"""Rates of single functions, measured so that a busy machine disturbs them little."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import cv2
import torch

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Rate:
    """How fast something ran.

    Attributes:
        name: What was measured.
        count: Items in one round.
        seconds: Wall time of each round.
        unit: What an item is.
    """

    name: str
    count: int
    seconds: tuple[float, ...]
    unit: str = "images"

    @property
    def per_second(self) -> float:
        """Items per second in the fastest round: what else runs on a machine can only slow it."""
        return self.count / min(self.seconds)


def measure(
    name: str,
    function: Callable[[T], R],
    items: Sequence[T],
    *,
    weight: Callable[[T], int] = lambda item: 1,
    rounds: int = 3,
    unit: str = "images",
) -> tuple[Rate, list[R]]:
    """Times a function over items, after one call with the first of them to warm up.

    Args:
        name: What is measured.
        function: Called with one item at a time.
        items: At least one.
        weight: How many units an item counts as: the size of a batch.
        rounds: Times that all items are gone through.
        unit: What is counted.

    Returns:
        The rate and the results of the last round.
    """
    function(items[0])
    seconds, results = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        results = [function(item) for item in items]
        seconds.append(time.perf_counter() - start)
    return Rate(name, sum(map(weight, items)), tuple(seconds), unit), results


@contextmanager
def one_core() -> Iterator[None]:
    """Keeps torch and OpenCV to one thread within the block, as a worker of a run does."""
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)
