"""The files of an input, and what a run makes one record of: a photo, or several that belong together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pipeline.errors import InputError
from pipeline.images.ids import SeenIds, image_id
from pipeline.redact import shown_uri


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One file of an input.

    Attributes:
        id: First 8 bytes of the SHA-256 of the URI, as a signed big-endian integer.
        uri: Absolute local path or URL; a local path that is not UTF-8 is a file:// URL.
        size: Bytes, None where the listing does not tell.
        etag: Changes when the content does; None where the listing does not tell.
    """

    id: int
    uri: str
    size: int | None = None
    etag: str | None = None


@dataclass(frozen=True)
class ListedItem:
    """One item of an input.

    Attributes:
        id: Identifier, the same in every run: of a single photo the photo's, else made of `uri` as that is.
        uri: The photo, or the folder of the photos.
        photos: Its photos, at least one.
    """

    id: int
    uri: str
    photos: tuple[ListedFile, ...]


def one_photo_each(listed: Iterable[ListedFile]) -> Iterator[ListedItem]:
    """Makes an item of every photo."""
    for photo in listed:
        yield ListedItem(photo.id, photo.uri, (photo,))


def one_folder_each(listed: Iterable[ListedFile]) -> Iterator[ListedItem]:
    """Makes an item of the photos that lie directly in one folder.

    Args:
        listed: Photos of which those below one folder follow each other, as a listing has them. Only folders
            that are not yet left are held in memory, and 16 bytes of every other.

    Raises:
        InputError: A list comes back to a folder that it has left.
    """
    open_folders: list[_Folder] = []  # each within the one before
    seen = SeenIds()
    for photo in listed:
        path = photo.uri.rpartition("/")[0]
        while open_folders and not f"{path}/".startswith(f"{open_folders[-1].path}/"):
            yield open_folders.pop().item
        if not open_folders or open_folders[-1].path != path:
            open_folders.append(_Folder(path))
            if not seen.add(open_folders[-1].digest, path):
                raise InputError(
                    f"A list has to name the photos of a folder one after the other: {shown_uri(path)}."
                )
        open_folders[-1].photos.append(photo)
    while open_folders:
        yield open_folders.pop().item


@dataclass
class _Folder:
    path: str
    photos: list[ListedFile] = field(default_factory=list)

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.path.encode()).digest()

    @property
    def item(self) -> ListedItem:
        photos = tuple(sorted(self.photos, key=lambda photo: photo.uri))
        return ListedItem(image_id(self.digest), self.path, photos)
