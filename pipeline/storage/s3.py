"""S3 through s3fs, with our retries, and without what does not scale or fails silently."""

import mimetypes
from typing import Any

import s3fs
import tenacity
from fsspec.asyn import sync

from pipeline.storage.retries import retry_rule

BULK = 1000
"""Objects that one request removes at most."""

REMOVALS = 3
"""Attempts at listing and removing all objects of a folder."""


class S3FileSystem(s3fs.S3FileSystem):
    """s3fs with our retries."""

    def __init__(self, *, attempts: int, timeout_s: float, connections: int, **options: Any):
        config = {
            "connect_timeout": timeout_s,
            "read_timeout": timeout_s,
            "max_pool_connections": connections,
            "retries": {"total_max_attempts": 1},
        }
        super().__init__(config_kwargs=config, max_concurrency=connections, **options)
        # Neither botocore's retries nor those of s3fs: they would multiply ours.
        self.retries = 1
        self._retrying = tenacity.AsyncRetrying(**retry_rule(attempts, timeout_s))

    def split_path(self, path: str) -> tuple[str, str, str | None]:
        """Returns bucket, key and no version: s3fs takes "?versionId=" off, which a key may hold."""
        trail = path[len(path.rstrip("/")) :]
        path = self._strip_protocol(path).lstrip("/")
        if "/" not in path:
            return path, "", None
        bucket, key = self._find_bucket_key(path)
        return bucket, key + trail, None

    async def _call_s3(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return await self._retrying.copy()(super()._call_s3, method, *args, **kwargs)

    async def _ls(
        self, path: str, detail: bool = False, refresh: bool = False, versions: bool = False
    ) -> list[Any]:
        # s3fs lists the parent folder too when there is nothing: that may be the bucket of all photos.
        entries = await self._lsdir(self._strip_protocol(path), versions=versions)
        return entries if detail else sorted(entry["name"] for entry in entries)

    async def _cat_file(
        self, path: str, version_id: Any = None, start: Any = None, end: Any = None, **_: Any
    ) -> bytes:
        # One request, and not another one for the size so that large objects can come in parts.
        return await super()._cat_file(path, version_id, start, end, max_concurrency=1)

    async def _put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        # s3fs goes by the local file's name, and ours is a temporary one. A browser goes by the type.
        kind = mimetypes.guess_type(rpath)[0] or "application/octet-stream"
        await super()._put_file(lpath, rpath, **{"ContentType": kind, **options})

    def remove_tree(self, path: str) -> int:
        """Removes an object and all objects below it, whatever characters are in their keys.

        Returns:
            How many are still there: a server may refuse single objects of a request without failing.
        """
        return sync(self.loop, self._remove_tree, path)

    async def _remove_tree(self, path: str) -> int:
        bucket, key, _ = self.split_path(path)
        await self._rm_file(path)
        for _ in range(REMOVALS):
            found, batch = 0, []
            async for info in self._iterdir(bucket, delimiter="", prefix=f"{key}/"):
                found += 1
                batch.append(info["name"])
                if len(batch) == BULK:
                    await self._bulk_delete(batch)
                    batch = []
            if batch:
                await self._bulk_delete(batch)
            if not found:
                return 0
        return found
