"""Ids of photos, made of their URIs alone so that they are the same from run to run."""

import numpy as np

from pipeline.errors import InputError
from pipeline.redact import shown_uri


def image_id(digest: bytes) -> int:
    """Returns the id that belongs to the SHA-256 of a URI."""
    return int.from_bytes(digest[:8], "big", signed=True)


class SeenIds:
    """Which URIs were seen, in 16 bytes each: the id, and 8 more bytes of the digest to tell URIs apart.

    Recent ones are held in a dictionary, all others in two sorted arrays.

    Args:
        recent: How many are recent.
    """

    def __init__(self, recent: int = 1 << 17):
        self._most_recent = recent
        self._recent: dict[int, int] = {}
        self._ids = np.empty(0, np.int64)
        self._checks = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._ids) + len(self._recent)

    def add(self, digest: bytes, uri: str) -> bool:
        """Adds a URI; returns False when it was there already.

        Args:
            digest: SHA-256 of the URI.
            uri: The URI, for the message.

        Raises:
            InputError: Another URI has the same id. To be expected once in 400,000 inputs of ten million.
        """
        number, check = image_id(digest), image_id(digest[8:])
        known = self._recent.get(number)
        if known is None:
            position = int(np.searchsorted(self._ids, number))
            if position < len(self._ids) and self._ids[position] == number:
                known = int(self._checks[position])
        if known is None:
            self._recent[number] = check
            if len(self._recent) >= self._most_recent:
                self._merge()
            return True
        if known != check:
            raise InputError(f"Two photos have the same id {number}: rename one of them, {shown_uri(uri)}.")
        return False

    def _merge(self) -> None:
        ids = np.concatenate([self._ids, np.fromiter(self._recent.keys(), np.int64)])
        checks = np.concatenate([self._checks, np.fromiter(self._recent.values(), np.int64)])
        order = np.argsort(ids, kind="stable")
        self._ids, self._checks = ids[order], checks[order]
        self._recent.clear()
