"""Reading of remote files, whole or in part, where a body that breaks off half way is asked for again."""

import io
from collections.abc import Callable
from typing import Any, BinaryIO

import tenacity

from pipeline.storage.places import StorageConfig, open_filesystem
from pipeline.storage.retries import http_status, retry_rule

BUFFER = 1 << 20
"""Bytes that small reads of a remote file fetch at least."""


def read_once(uri: str, config: StorageConfig, start: int | None = None, end: int | None = None) -> bytes:
    """Reads a remote file, or its bytes from `start` up to and without `end`, by a single request."""
    filesystem, path = open_filesystem(uri, config, attempts=1)
    try:
        return filesystem.cat_file(path, start=start, end=end)
    except Exception as error:
        if start is not None and http_status(error) == 416:
            return b""  # servers refuse any range of an empty object
        raise


def read_range(uri: str, config: StorageConfig, start: int | None = None, end: int | None = None) -> bytes:
    """Reads like `read_once`, and again where that can help."""
    return tenacity.Retrying(**retry_rule(config.attempts, config.timeout_s))(
        read_once, uri, config, start, end
    )


class RangeFile(io.RawIOBase):
    """A file of known size that can be read at any position."""

    def __init__(self, size: int, read: Callable[[int, int], bytes]):
        super().__init__()
        self._size = size
        self._read = read
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer as far as there are bytes and returns their number."""
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        data = self._read(self._position, end)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def open_remote(uri: str, config: StorageConfig) -> BinaryIO:
    """Opens a remote file for reading at any position."""
    filesystem, path = open_filesystem(uri, config)
    size = filesystem.info(path)["size"]
    return io.BufferedReader(RangeFile(size, lambda start, end: read_range(uri, config, start, end)), BUFFER)
