"""Items on their way through the stages, and the messages that carry a chunk of them."""

from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import ReadError
from pipeline.images.items import ListedFile

LEFT_OUT = "left_out"
"""Code of photos of an item that are not used since there are enough others."""


@dataclass
class Photo:
    """One photo of an item.

    Attributes:
        file: Where it is.
        data: Content of the file; None when it cannot be had, is not read yet, or the first stage is over.
        error: Why it cannot be had.
    """

    file: ListedFile
    data: bytes | None = None
    error: ReadError | None = None


@dataclass
class Item:
    """What one record is made of.

    Attributes:
        record: The record as far as it is known; see `pipeline.run.records`.
        photos: Its photos.
        handed_on: What one stage hands on to the next, never a whole decoded photo.
    """

    record: dict[str, Any]
    photos: list[Photo]
    handed_on: Any = None

    @property
    def is_open(self) -> bool:
        """Whether there is still something to be done: it has no status yet, and repeats no other item."""
        return self.record["status"] is None and self.record["duplicate_of"] is None

    def end_empty(self, status: str, message: str) -> None:
        """Notes that the photos were read and hold nothing that the recipe looks for."""
        self.record.update(status=status, error_code=status, error_message=message)


@dataclass
class Chunk:
    """Items that go through the stages together.

    Attributes:
        shard: Number of the shard.
        chunk: Number of the chunk in its shard.
        items: The items, in the order of the plan.
        bytes_read: Size of their photos' files.
        seconds: Stage -> time spent on it so far.
    """

    shard: int
    chunk: int
    items: list[Item]
    bytes_read: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
