"""The output folder of a run, local or remote, written so that a file is whole or not there at all.

A local file is written beside its final place and renamed; an object appears when its upload ends. A
process that is killed therefore leaves no cut file under a name that a reader looks at.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import OutputError
from pipeline.redact import redact, shown_uri
from pipeline.storage.places import StorageConfig, local_path, open_filesystem
from pipeline.storage.ranges import BUFFER, RangeFile, read_range
from pipeline.storage.retries import explain, http_status

SCRATCH = "_work"
"""Folder for what is not finished; nobody reads it, and it is removed when a run is complete."""

RETRY = "retry-"
"""How the names of sessions begin that try photos again."""

UNFINISHED = "facet-"
"""How the names of files begin that are being written."""

CLIENT_LIBRARIES = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "adlfs", "azure")
"""Packages whose errors mean that storage failed."""


class Store:
    """A folder on any file system that fsspec opens. Cheap to pickle: it connects where it is used.

    Args:
        url: A local path or a URL such as s3://bucket/prefix; of a single file, which is read by the name "".
        storage: How remote storage is reached.
        session: Whose unfinished local files these are: they lie in its scratch folder, which goes when it
            ends, whoever was killed meanwhile. Empty: right in the scratch folder.
    """

    def __init__(self, url: str, storage: StorageConfig | None = None, session: str = ""):
        # Absolute at once: workers may have another working directory.
        self.url = local_path(url) or url.rstrip("/")
        place = url.rstrip("/").partition("://")[2]
        if local_path(url) is None and (not place or "//" in place):
            raise OutputError(
                f"The output's URL {shown_uri(url)} lacks a bucket or folder: is a variable empty?"
            )
        self._storage = storage or StorageConfig()
        self._session = session
        if local_path(url) is None and shown_uri(self.url) != self.url:
            raise OutputError(
                f"The output's URL {shown_uri(self.url)} must hold no user, password or query: credentials "
                "come from the environment or a profile."
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Store) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash(self.url)

    def __reduce__(self):
        return Store, (self.url, self._storage, self._session)

    def of_session(self, session: str) -> Store:
        """Returns the same folder, for the writers of a session."""
        return Store(self.url, self._storage, session)

    @cached_property
    def _place(self) -> tuple[Any, str]:
        if local_path(self.url) is not None:
            return LocalFileSystem(), self.url
        try:
            return open_filesystem(self.url, self._storage)
        except (ImportError, ValueError) as error:
            raise OutputError(f"Cannot write to {shown_uri(self.url)}: {error}.") from error

    @property
    def filesystem(self) -> Any:
        return self._place[0]

    @property
    def is_local(self) -> bool:
        """Whether the folder is on this machine's own file system."""
        return isinstance(self.filesystem, LocalFileSystem)

    def path(self, name: str = "") -> str:
        """Returns the path of a file of the folder, as `filesystem` takes it."""
        root = self._place[1]
        return f"{root}/{name}" if name else root

    def place(self, name: str = "") -> str:
        """Returns the path or the URL of a file of the folder, as the user would give it."""
        return f"{self.url}/{name}" if name else self.url

    def names(self, folder: str = "") -> list[str]:
        """Lists a folder, without its subfolders' content; empty when there is none.

        Raises:
            OutputError: The folder cannot be listed.
        """
        with self._explained(folder, "list"):
            self.filesystem.invalidate_cache()
            try:
                found = self.filesystem.ls(self.path(folder), detail=False)
            except FileNotFoundError:
                return []
            # A file, or the empty object that may stand for a folder, is listed as itself.
            paths = {str(item).rstrip("/") for item in found} - {self.path(folder)}
            return sorted(path.rpartition("/")[2] for path in paths)

    def find(self, folder: str = "") -> list[str]:
        """Lists all files below a folder, by their names in this one, in order.

        Raises:
            OutputError: They cannot be listed.
        """
        with self._explained(folder, "list"):
            self.filesystem.invalidate_cache()
            root = self.path()
            found = self.filesystem.find(self.path(folder))
            return sorted(str(path).removeprefix(root).removeprefix("/") for path in found)

    def read(self, name: str) -> bytes:
        """Returns the content of a file.

        Raises:
            FileNotFoundError: There is no such file.
            OutputError: It cannot be read.
        """
        with self._explained(name, "read"):
            if self.is_local:
                return self.filesystem.cat_file(self.path(name))
            return read_range(self.place(name), self._storage)

    def open(self, name: str) -> BinaryIO:
        """Opens a file for reading at any position.

        Raises:
            FileNotFoundError: There is no such file.
            OutputError: It cannot be read, now or later.
        """
        with self._explained(name, "read"):
            if self.is_local:
                return self.filesystem.open(self.path(name), "rb")
            size = self.filesystem.info(self.path(name))["size"]
        return io.BufferedReader(RangeFile(size, partial(self._read_part, name)), BUFFER)

    def _read_part(self, name: str, start: int, end: int) -> bytes:
        with self._explained(name, "read"):
            return read_range(self.place(name), self._storage, start, end)

    def write(self, name: str, data: bytes) -> None:
        """Writes a small file in one go.

        Raises:
            OutputError: It cannot be written.
        """
        with self.create(name) as file:
            file.write(data)

    def write_new(self, name: str, data: bytes) -> bool:
        """Writes a small file unless there is one; of several processes that try, one succeeds.

        On remote storage without conditional writes two processes may both succeed within a moment.

        Returns:
            Whether it was written.

        Raises:
            OutputError: It cannot be written.
        """
        with self._explained(name, "write"):
            path = self.path(name)
            self.filesystem.invalidate_cache()
            if self.filesystem.exists(path):
                return False
            if self.is_local:
                return self._link_new(path, data)
            try:
                self.filesystem.pipe_file(path, data, mode="create")
            except Exception as error:
                if http_status(error) in (409, 412) or isinstance(error, FileExistsError):
                    # Ours, when the answer was lost and the request was sent again.
                    return read_range(self.place(name), self._storage) == data
                if http_status(error) not in (400, 501):
                    raise
                self.filesystem.pipe_file(path, data)  # a server that does not know the condition
            return True

    def _link_new(self, path: str, data: bytes) -> bool:
        temporary = Path(f"{path}-{uuid.uuid4().hex}")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            os.link(temporary, path)  # unlike a rename, fails when the name is taken
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise
            os.replace(temporary, path)  # a file system without links
        finally:
            temporary.unlink(missing_ok=True)
        return True

    @contextmanager
    def create(self, name: str) -> Iterator[HashedFile]:
        """Opens a new file for writing in order; it appears under its name when the block ends well.

        Raises:
            OutputError: It cannot be written.
        """
        with self._explained(name, "write"):
            if self.is_local:
                with self._beside(Path(self.path(name))) as raw:
                    yield HashedFile(raw)
                return
            # A file without a name: however this process ends, nothing of it stays.
            with tempfile.TemporaryFile() as raw:
                # The disk that is full is not the bucket.
                with self._explained(f"{name} by way of {tempfile.gettempdir()}", "write"):
                    yield HashedFile(raw)
                    raw.seek(0)
                self.filesystem.put_file(f"/dev/fd/{raw.fileno()}", self.path(name))

    @contextmanager
    def _beside(self, final: Path) -> Iterator[BinaryIO]:
        folder = Path(self.path(SCRATCH), self._session)
        temporary = folder / f"{UNFINISHED}{uuid.uuid4().hex}"
        try:
            with _open_new(temporary) as raw:
                yield raw
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)
            with suppress(OSError):  # not empty: others are writing
                folder.rmdir()
                if self._session:
                    folder.parent.rmdir()

    def remove(self, name: str) -> None:
        """Removes a file, or a folder with all it holds; nothing happens when there is none.

        Raises:
            OutputError: Something is still there.
        """
        with self._explained(name, "remove"):
            filesystem, path = self._place[0], self.path(name)
            if self.is_local:
                while filesystem.exists(path):
                    with suppress(FileNotFoundError):  # another process is removing it as well
                        filesystem.rm(path, recursive=True)
            elif hasattr(filesystem, "remove_tree"):
                if left := filesystem.remove_tree(path):
                    raise OutputError(
                        f"Cannot remove {self.place(name)}: {left:,} objects of it are still there."
                    )
            else:
                # Not all at once: fsspec takes names with * or [ for patterns.
                filesystem.invalidate_cache()
                with ThreadPoolExecutor(self._storage.connections) as pool:
                    list(pool.map(filesystem.rm_file, filesystem.find(path)))

    def free_bytes(self) -> int | None:
        """Returns the free space of the disk that holds a local folder, None for remote ones."""
        if not self.is_local:
            return None
        folder = Path(self.path())
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    @contextmanager
    def _explained(self, name: str, verb: str) -> Iterator[None]:
        # Remote file systems raise their client library's own errors (no credentials, no such bucket)
        # beside OSError; what the caller itself raises within the block must pass unchanged.
        try:
            yield
        except OutputError:
            raise
        except Exception as error:
            if verb == "read" and isinstance(error, FileNotFoundError):
                raise
            if isinstance(error, OSError):
                reason = f"{redact(str(error.strerror or error)) or type(error).__name__}."
            elif type(error).__module__.partition(".")[0] in CLIENT_LIBRARIES:
                reason = explain(error)[1]
            else:
                raise
            raise OutputError(f"Cannot {verb} {self.place(name)}: {reason}") from error


def drop_scratch(store: Store, session: str) -> None:
    """Removes what a session has not finished, and the folder for it once nobody else has anything there."""
    store.remove(f"{SCRATCH}/{session}")
    if store.is_local:
        with suppress(OSError):  # not empty: others have theirs
            os.rmdir(store.path(SCRATCH))


def _open_new(path: Path) -> BinaryIO:
    for left in reversed(range(100)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("xb")
        except (FileNotFoundError, FileExistsError):
            # Another writer was the last to leave the folder, and has just removed it.
            if not left:
                raise
    raise AssertionError


class HashedFile:
    """A file opened for writing that knows the size and the SHA-256 of what went through it."""

    def __init__(self, raw: BinaryIO):
        self._raw = raw
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of everything written so far."""
        return self._digest.hexdigest()

    @property
    def closed(self) -> bool:
        """False: whoever opened the file closes it."""
        return False

    def write(self, data: Any) -> int:
        written = self._raw.write(data)
        self._digest.update(data)
        self.size += written
        return written

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """Does nothing: the file is flushed when it is closed."""

    def close(self) -> None:
        """Does nothing, so that a writer library does not end the file before the block does."""
