"""The files of an input, and what a run makes one record of: a photo, or several that belong together."""

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
        subject: Whom it shows, where a list tells.
    """

    id: int
    uri: str
    size: int | None = None
    etag: str | None = None
    subject: str | None = None


@dataclass(frozen=True)
class ListedItem:
    """One item of an input.

    Attributes:
        id: Identifier, the same in every run: of a single photo the photo's, else made of `uri` as that is.
        uri: The photo, or the folder of the photos, or the name of their subject.
        photos: Its photos, at least one.
    """

    id: int
    uri: str
    photos: tuple[ListedFile, ...]


def one_photo_each(listed: Iterable[ListedFile]) -> Iterator[ListedItem]:
    """Makes an item of every photo."""
    for photo in listed:
        yield ListedItem(photo.id, photo.uri, (photo,))


def one_subject_each(listed: Iterable[ListedFile]) -> Iterator[ListedItem]:
    """Makes an item of the photos of a subject, or where nothing says whose they are, of those in a folder.

    Args:
        listed: Photos of which those below one folder, and those of one subject, follow each other, as a
            listing has them. Only folders that are not yet left are held in memory, and 16 bytes of every
            other.

    Raises:
        InputError: A list comes back to a folder or a subject that it has left.
    """
    open_items: list[_OpenItem] = []  # each within the one before
    seen = SeenIds()
    for photo in listed:
        uri = photo.subject or photo.uri.rpartition("/")[0]
        while open_items and not (open_items[-1].uri == uri or open_items[-1].holds(photo)):
            yield open_items.pop().item
        if not open_items or open_items[-1].uri != uri:
            open_items.append(_OpenItem(uri, photo.subject is None))
            if not seen.add(open_items[-1].digest, uri):
                kind = "subject" if photo.subject else "folder"
                raise InputError(
                    f"A list has to name the photos of a {kind} one after the other: {shown_uri(uri)}."
                )
        open_items[-1].photos.append(photo)
    while open_items:
        yield open_items.pop().item


@dataclass
class _OpenItem:
    uri: str
    is_folder: bool
    photos: list[ListedFile] = field(default_factory=list)

    def holds(self, photo: ListedFile) -> bool:
        """Whether a photo lies somewhere below this folder, so that more of the folder may follow."""
        return self.is_folder and photo.subject is None and photo.uri.startswith(f"{self.uri}/")

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.uri.encode()).digest()

    @property
    def item(self) -> ListedItem:
        photos = tuple(sorted(self.photos, key=lambda photo: photo.uri))
        return ListedItem(image_id(self.digest), self.uri, photos)
