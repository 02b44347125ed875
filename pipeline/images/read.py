"""Bytes of photos from local and remote storage; every failure is a `ReadError` with a stable code.

not_found       no such file
access_denied   no permission or no credentials
timeout         no answer in time, also not after retries
file_too_large  more bytes than the limit
read_failed     anything else
"""

import math
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import tenacity
from fsspec.asyn import sync
from pydantic import Field

from pipeline.config import Section
from pipeline.errors import ReadError
from pipeline.storage.places import StorageConfig, local_path, open_filesystem, scheme
from pipeline.storage.ranges import read_once
from pipeline.storage.retries import explain, retry_rule


class ReadConfig(Section):
    """How photos are read.

    Attributes:
        storage: How object storage and web servers are reached.
        max_bytes: Size above which a file is refused: it would fill the memory, and no photo is as large.
    """

    storage: StorageConfig = Field(default_factory=StorageConfig)
    max_bytes: int = Field(default=256 << 20, ge=1)


class PhotoReader:
    """Reads many photos at a time. Threads start at the first call; one instance per process."""

    def __init__(self, config: ReadConfig):
        self._config = config
        self._pool: ThreadPoolExecutor | None = None

    def __call__(self, uris: Sequence[str]) -> list[bytes | ReadError]:
        """Returns, in the order of the URIs, the content of every file or the reason why there is none."""
        return [found for found in self.up_to(math.inf, uris) if found is not None]

    def up_to(self, most: float, uris: Sequence[str]) -> list[bytes | ReadError | None]:
        """Reads files until they hold so many bytes: what is not begun by then is None."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._config.storage.connections, "facet-read")
        held, lock = 0, Lock()

        def read(uri: str) -> bytes | ReadError | None:
            nonlocal held
            if held > most:
                return None
            found = self._read(uri)
            with lock:
                held += len(found) if isinstance(found, bytes) else 0
            return found

        return list(self._pool.map(read, uris))

    def _read(self, uri: str) -> bytes | ReadError:
        try:
            return read_bytes(uri, self._config)
        except ReadError as error:
            return error


def read_bytes(uri: str, config: ReadConfig) -> bytes:
    """Reads one file, retrying where that can help.

    Raises:
        ReadError: Codes not_found, access_denied, timeout, file_too_large, read_failed.
    """
    path = local_path(uri)
    attempts = tenacity.Retrying(**retry_rule(config.storage.attempts, config.storage.timeout_s))
    try:
        if path is None:
            data = attempts(_read_remote, uri, config)
        else:
            data = attempts(_read_local, path, config.max_bytes)
    except ReadError:
        raise
    except Exception as error:
        # Storage clients raise nearly everything: OSError, their own errors, ValueError, RuntimeError.
        code, message = explain(error)
        raise ReadError(message, code) from error
    if len(data) > config.max_bytes:
        raise ReadError(
            f"The file is larger than the limit of {config.max_bytes:,} bytes (read.max_bytes).",
            "file_too_large",
        )
    return data


def _read_local(path: str, max_bytes: int) -> bytes:
    with open(path, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ReadError("Not a regular file.")
        # No more than there is: memory for as much as may be read would be reserved first.
        return file.read(min(status.st_size, max_bytes) + 1)


def _open_at_once(path: str, flags: int) -> int:
    # To open a pipe would wait for its other end, possibly for ever.
    return os.open(path, flags | os.O_NONBLOCK)


def _read_remote(uri: str, config: ReadConfig) -> bytes:
    limit = config.max_bytes + 1
    if scheme(uri) in ("http", "https"):
        filesystem, path = open_filesystem(uri, config.storage)
        return sync(filesystem.loop, _read_web, filesystem, path, limit)
    return read_once(uri, config.storage, 0, limit)


async def _read_web(filesystem: Any, url: str, limit: int) -> bytes:
    # fsspec asks for the size first, calls every failure of that a missing file, and reads without bound
    # from servers that ignore ranges.
    session = await filesystem.set_session()
    content = bytearray()
    async with session.get(filesystem.encode_url(url)) as response:
        response.raise_for_status()
        async for chunk in response.content.iter_chunked(1 << 16):
            content += chunk
            if len(content) >= limit:
                break
    return bytes(content)
