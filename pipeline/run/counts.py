"""What a part of a run adds up to: mergeable counts, written into markers and run.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.redact import shown_uri
from pipeline.run import records

EXAMPLES = 3
"""Photos named per error code."""

STAGES = ("read", "crop", "normals", "write")


@dataclass
class Counts:
    """Counts over any number of photos; two of them add up.

    Attributes:
        images: Photos, whatever became of them.
        faces: Faces found.
        bytes_read: Bytes of the photos' files; those of photos that were tried again count again.
        duplicates: Photos with the same bytes as an earlier one of their shard.
        statuses: Photos by status.
        error_codes: Photos that failed, by error code.
        examples: Error code -> up to `EXAMPLES` pairs of URI and message.
        seconds: Stage -> time that workers spent on it, added up over all workers.
    """

    images: int = 0
    faces: int = 0
    bytes_read: int = 0
    duplicates: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    error_codes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)

    @property
    def failures(self) -> int:
        """Photos that failed."""
        return sum(self.error_codes.values())

    def __iadd__(self, other: Counts) -> Counts:
        self.images += other.images
        self.faces += other.faces
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
            "images": self.images,
            "faces": self.faces,
            "bytes_read": self.bytes_read,
            "duplicates": self.duplicates,
            "status": dict(self.statuses.most_common()),
            "error_code": dict(self.error_codes.most_common()),
            "examples": self.examples,
            "stage_seconds": {stage: round(self.seconds[stage], 3) for stage in STAGES},
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Counts:
        """Returns what `to_json` was given."""
        return cls(
            images=values["images"],
            faces=values["faces"],
            bytes_read=values["bytes_read"],
            duplicates=values["duplicates"],
            statuses=Counter(values["status"]),
            error_codes=Counter(values["error_code"]),
            examples={
                code: [(uri, text) for uri, text in pairs] for code, pairs in values["examples"].items()
            },
            seconds=Counter(values["stage_seconds"]),
        )


def count(
    rows: list[dict[str, Any]], bytes_read: int = 0, seconds: Mapping[str, float] | None = None
) -> Counts:
    """Adds up records.

    Args:
        rows: See `pipeline.run.records`.
        bytes_read: Bytes of their photos' files.
        seconds: Stage -> time spent on them.
    """
    counts = Counts(
        images=len(rows),
        faces=sum(len(row["faces"]) for row in rows),
        bytes_read=bytes_read,
        duplicates=sum(row["duplicate_of"] is not None for row in rows),
        statuses=Counter(row["status"] for row in rows),
        seconds=Counter(seconds),
    )
    for row in rows:
        if row["status"] == records.FAILED:
            counts.error_codes[row["error_code"]] += 1
            examples = counts.examples.setdefault(row["error_code"], [])
            if len(examples) < EXAMPLES:
                examples.append((shown_uri(row["uri"]), row["error_message"]))
    return counts


def count_table(table: pa.Table) -> Counts:
    """Adds up records that are a table, without a copy of their images."""
    rows = table.select(["uri", "duplicate_of", "status", "error_code", "error_message"]).to_pylist()
    for row, faces in zip(rows, pc.list_value_length(table["faces"]).to_pylist(), strict=True):
        row["faces"] = range(faces)
    return count(rows)


def numbered(number: int, noun: str) -> str:
    """Returns a number with its noun, such as "1 shard" or "1,000 shards"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
