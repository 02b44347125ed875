"""Log lines of a run on stderr: one per event, as text or, with `--log-json`, as JSON.

    {"time": "2026-03-01T12:00:00.000+00:00", "level": "info", "event": "shard_committed",
     "message": "Shard 7: 1,000 photos, 1,043 faces, 2 failed.", "shard": 7, "images": 1000, ...}

Events of a run: run_started, listing, plan_written, progress, shard_committed, photo_failed, run_ended; and
note, error and log for whatever else is said. Fields are added but never renamed.
"""

import hashlib
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from pipeline.errors import FacetError
from pipeline.run.counts import Counts
from pipeline.storage.places import scheme
from pipeline.words import printable, quantity

ROOT = logging.getLogger("pipeline")
log = logging.getLogger("pipeline.run")

UNEXPECTED = ("internal_error", "crashed", "out_of_memory")
"""Error codes that tell of a fault of Facet, of a library or of the machine."""


class JsonFormatter(logging.Formatter):
    """Formats every record as one JSON object, in ASCII, so that no name from outside can end the line."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line of a record."""
        values: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "log"),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            values["exception"] = self.formatException(record.exc_info)
        return json.dumps(values)


class TextFormatter(logging.Formatter):
    """Formats every record as time and message, without control characters."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Returns the first line of a record; a traceback may follow."""
        return printable(super().formatMessage(record))


class StderrHandler(logging.StreamHandler):
    """Writes to whatever sys.stderr is at the time."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """The stream to write to."""
        return sys.stderr


def set_up(as_json: bool = False) -> None:
    """Has the log lines of this process written to stderr; called by entry points alone.

    As text in a terminal, where a bar shows how far the run is, warnings alone are shown.
    """
    for handler in [handler for handler in ROOT.handlers if isinstance(handler, StderrHandler)]:
        ROOT.removeHandler(handler)
    handler = StderrHandler()
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    if not as_json and sys.stderr.isatty():
        handler.setLevel(logging.WARNING)
    ROOT.addHandler(handler)
    ROOT.setLevel(logging.INFO)


def writes_json() -> bool:
    """Whether log lines are JSON, and everything else on stderr should be as well."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in ROOT.handlers)


def event(name: str, message: str, level: int = logging.INFO, **fields: Any) -> None:
    """Logs an event."""
    log.log(level, "%s", message, extra={"event": name, "fields": fields})


def say(line: str) -> None:
    """Tells the user something: a plain line on stderr, or an event."""
    if writes_json():
        event("note", line)
    else:
        print(printable(line), file=sys.stderr)


def complain(error: FacetError) -> None:
    """Tells the user why a command ends: one line, or an event."""
    if writes_json():
        event("error", error.message, logging.ERROR, code=error.code)
    else:
        print(f"facet: {printable(error.message)} [{error.code}]", file=sys.stderr)


def shard_committed(shard: int, counts: Counts) -> None:
    """Logs that a shard is committed."""
    event(
        "shard_committed",
        f"Shard {shard}: {quantity(counts.images, 'photo')}, {found_text(counts)}{counts.failures:,} failed.",
        shard=shard,
        **counted(counts),
    )


def unexpected_failures(counts: Counts) -> None:
    """Logs photos that failed by a fault of Facet or of the machine, up to three of a chunk.

    Where secret parts of an address are left out, the id, which is a hash of the whole address, cannot be
    worked out and is left out, too.
    """
    from pipeline.images.ids import image_id  # here, since numpy takes a moment

    for code in UNEXPECTED:
        for uri, message in counts.examples.get(code, []):
            whole = scheme(uri) not in ("http", "https")
            number = image_id(hashlib.sha256(uri.encode()).digest()) if whole else None
            event(
                "photo_failed",
                f"Photo {number} failed: {uri}: {message}" if whole else f"{uri} failed: {message}",
                logging.ERROR,
                id=number,
                uri=uri,
                error_code=code,
                error_message=message,
            )


def counted(counts: Counts) -> dict[str, Any]:
    """Returns counts as fields of an event."""
    return {
        "images": counts.images,
        **counts.found,
        "failed": counts.failures,
        "error_code": dict(counts.error_codes.most_common()),
    }


def found_text(counts: Counts) -> str:
    """Returns what was found, to be followed by something: "1,043 faces, "."""
    return "".join(f"{quantity(number, name.removesuffix('s'))}, " for name, number in counts.found.items())
