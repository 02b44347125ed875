"""What a part of a run adds up to: mergeable counts, written into markers and run.json."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

OK = "ok"
FAILED = "failed"

EXAMPLES = 3
"""Most items whose names are kept for each error code."""


@dataclass
class Counts:
    """Counts over any number of items; two of them add up.

    Attributes:
        records: Items, whatever became of them: one record each.
        images: Their photos.
        found: Name -> number of what was found in them, such as faces.
        bytes_read: Bytes of the photos' files; those of photos that were tried again count again.
        duplicates: Items with the same bytes as an earlier one of their shard.
        statuses: Items by status.
        error_codes: Items that failed, by error code.
        examples: Error code -> up to `EXAMPLES` pairs of URI and message.
        seconds: Stage -> time that workers spent on it, added up over all workers.
    """

    records: int = 0
    images: int = 0
    found: Counter[str] = field(default_factory=Counter)
    bytes_read: int = 0
    duplicates: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    error_codes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)

    @property
    def failures(self) -> int:
        """Items that failed."""
        return sum(self.error_codes.values())

    def __iadd__(self, other: Counts) -> Counts:
        self.records += other.records
        self.images += other.images
        self.found.update(other.found)
        self.bytes_read += other.bytes_read
        self.duplicates += other.duplicates
        self.statuses.update(other.statuses)
        self.error_codes.update(other.error_codes)
        self.seconds.update(other.seconds)
        for code, examples in other.examples.items():
            known = self.examples.setdefault(code, [])
            known.extend(examples[: EXAMPLES - len(known)])
        return self

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for JSON, most frequent first."""
        return {
            "records": self.records,
            "images": self.images,
            "found": dict(self.found),
            "bytes_read": self.bytes_read,
            "duplicates": self.duplicates,
            "status": dict(self.statuses.most_common()),
            "error_code": dict(self.error_codes.most_common()),
            "examples": self.examples,
            "stage_seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Counts:
        """Returns what `to_json` was given."""
        return cls(
            records=values["records"],
            images=values["images"],
            found=Counter(values["found"]),
            bytes_read=values["bytes_read"],
            duplicates=values["duplicates"],
            statuses=Counter(values["status"]),
            error_codes=Counter(values["error_code"]),
            examples={
                code: [(uri, text) for uri, text in pairs] for code, pairs in values["examples"].items()
            },
            seconds=Counter(values["stage_seconds"]),
        )
