"""Items without a result, as the records have them: counted by error code with examples, and as a table."""

import csv
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import ConfigError
from pipeline.redact import shown_uri
from pipeline.run import records
from pipeline.run.counts import EXAMPLES, OK, Counts
from pipeline.run.markers import add_up, committed_shards, read_markers, records_name, unsound
from pipeline.run.recipe import RecordFormat
from pipeline.storage.store import Store
from pipeline.words import did_you_mean, printable, quantity

ALL = "all"
"""In place of codes: every failure."""

COLUMNS = ["uri", "error_code", "error_message", "id"]
ROWS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Problem:
    """An item without a result.

    Attributes:
        uri: Where it is, as it was listed.
        code: Its error code.
        message: The reason in words.
        id: Its identifier.
        records: Name of the file of its record.
    """

    uri: str
    code: str
    message: str
    id: int
    records: str


class Problems:
    """The items of a run that are not ok. Shards that have none of them are not opened.

    Args:
        store: The run folder.
        form: The format of its records.
        codes: Those that count, or `ALL`; None: these and that of nothing found.

    Raises:
        ConfigError: A code is not known.
        OutputError: The folder cannot be read.
    """

    def __init__(self, store: Store, form: RecordFormat, codes: Sequence[str] | None = None):
        self._store = store
        self._things = form.things
        markers = read_markers(store, committed_shards(store))
        everything = add_up(markers)
        wanted = choose_codes(form, codes or [form.empty, *everything.error_codes], everything)
        self._of_shard = {marker.shard: having(marker.counts, wanted, form.empty) for marker in markers}
        self.records = everything.records
        self.counts = sum(self._of_shard.values(), Counter[str]())

    def __iter__(self) -> Iterator[Problem]:
        for shard, counts in self._of_shard.items():
            if not counts:
                continue
            try:
                yield from self._of_records(records_name(shard), counts)
            except (OSError, pa.ArrowException) as error:
                raise unsound(self._store, shard, error) from error

    def _of_records(self, name: str, codes: Collection[str]) -> Iterator[Problem]:
        with self._store.open(name) as file, pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=[*COLUMNS, "status"]):
                for row in batch.filter(pc.not_equal(batch["status"], OK)).to_pylist():
                    if row["error_code"] in codes:
                        yield Problem(row["uri"], row["error_code"], row["error_message"], row["id"], name)

    def describe(self) -> str:
        """Returns their number by code, most frequent first, each with examples."""
        examples: dict[str, list[Problem]] = {code: [] for code in self.counts}
        lacking = sum(min(EXAMPLES, number) for number in self.counts.values())
        for problem in self if lacking else ():
            if len(examples[problem.code]) < EXAMPLES:
                examples[problem.code].append(problem)
                lacking -= 1
                if not lacking:
                    break
        lines = [f"{self.counts.total():,} of {quantity(self.records, 'record')} without {self._things}."]
        for code, number in self.counts.most_common():
            lines.append(f"  {code}: {number:,}")
            lines += [f"    {_shown(problem)}" for problem in examples[code]]
        return "\n".join(lines)

    def write(self, file: TextIO) -> None:
        """Writes all of them as CSV, which is a list of photos, too."""
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*COLUMNS, "records"])
        for problem in self:
            table.writerow(vars(problem).values())


def choose_codes(form: RecordFormat, codes: Sequence[str], counts: Counts) -> frozenset[str]:
    """Returns the error codes that are meant: those that are named, or with `ALL` every failure's.

    Raises:
        ConfigError: One is not known.
    """
    if list(codes) == [ALL]:
        return frozenset(counts.error_codes)
    known = {form.empty, *form.codes, *records.ERROR_CODES, *counts.error_codes}
    if unknown := sorted(set(codes) - known):
        raise ConfigError(
            f"There is no error code {', '.join(map(repr, unknown))}.{did_you_mean(unknown[0], known)} Known "
            f"are: {ALL}, "
            f"{', '.join(sorted(known))}."
        )
    return frozenset(codes)


def having(counts: Counts, codes: Collection[str], empty: str) -> Counter[str]:
    """Returns how many items have one of some error codes, by code; `empty`: that of nothing found."""
    every = counts.error_codes + Counter({empty: counts.statuses[empty]})
    return Counter({code: number for code, number in every.items() if code in codes})


def _shown(problem: Problem) -> str:
    return printable(f"{shown_uri(problem.uri)}: {problem.message}")
