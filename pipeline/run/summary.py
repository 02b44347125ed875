"""What the user reads at the end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.run import logs
from pipeline.run.counts import FAILED, OK, Counts
from pipeline.run.pace import rate_text
from pipeline.words import printable, quantity, size_text

if TYPE_CHECKING:
    from pipeline.run.folder import Planned
    from pipeline.run.job import Result

FAULTS = ("internal_error", "crashed", "fit_failed")
"""Error codes that tell of a fault of Facet or of a library."""

FAULT_SHARE = 0.01
"""Share of the records that may have one before the run went wrong."""


def summarise(result: Result, output: str, item: str = "photo") -> str:
    """Returns the summary of a complete run: counts, failures by code, where to look, how to read on.

    `item` is what a record is of.
    """
    counts = result.counts
    things = logs.found_text(counts).removesuffix(", ")
    thing = next(iter(counts.found), "things").removesuffix("s")
    empty = counts.records - counts.statuses[OK] - counts.statuses[FAILED]
    whole = _items(counts.records, item, counts.images)
    lines = [
        f"{whole}: {counts.statuses[OK]:,} with {things}, {empty:,} without a {thing}, "
        f"{counts.statuses[FAILED]:,} failed.",
        *failure_table(counts),
    ]
    if (done := result.session).images:
        pace = rate_text(done.images, done.found, done.images / result.seconds)
        part = f"{quantity(done.images, 'photo')} of them now, in" if done.images < counts.images else "In"
        lines.append(f"{part} {result.seconds:.1f} s: {pace}, start and end included.")
    if result.report:
        lines.append(f"Look at it:  {printable(result.report)}")
    records = printable(f"{output.rstrip('/')}/records")
    lines.append(f'Read it:     pyarrow.dataset.dataset("{records}").to_table()')
    return "\n".join(lines)


def _items(number: int, item: str, images: int) -> str:
    photos = quantity(images, "photo")
    return photos if item == "photo" else f"{quantity(number, item)} in {photos}"


def verdict(counts: Counts, item: str = "photo") -> str | None:
    """Returns why a complete run went wrong all the same, None where it did not."""
    faults = {code: counts.error_codes[code] for code in FAULTS if counts.error_codes[code]}
    if counts.records and counts.failures >= counts.records:
        codes, what = dict(counts.error_codes.most_common(3)), f"Every {item} failed"
    elif sum(faults.values()) > FAULT_SHARE * counts.records:
        codes, what = (
            faults,
            f"{sum(faults.values()):,} of {quantity(counts.records, item)} failed by no fault of theirs",
        )
    else:
        return None
    return f"{what}: {', '.join(f'{number:,} {code}' for code, number in codes.items())}."


def summarise_stopped(counts: Counts, output: str) -> str:
    """Returns what to say when a run was stopped."""
    return (
        f"Stopped. {quantity(counts.images, 'photo')} are safe in {printable(output)}; the same command goes "
        "on from there."
    )


def summarise_plan(planned: Planned, item: str = "photo") -> list[str]:
    """Returns what to say about a plan: what is to be done, and what the listing was like.

    `item` is what a record is of.
    """
    plan = planned.plan
    lines = [printable(note) for note in planned.notes]
    if planned.new is not None:
        lines.append(
            f"{quantity(planned.new, item)} added." if planned.new else "There are no new photos to add."
        )
    if planned.changed:
        lines.append(f"{quantity(planned.changed, item)} of the plan with new photos; the plan keeps them.")
    if planned.vanished:
        lines.append(
            f"{quantity(planned.vanished, item)} of the plan gone from the input; the plan keeps them."
        )
    size = f", {size_text(plan.bytes)}," if plan.bytes else ""
    what = _items(plan.items, item, plan.images)
    lines.append(f"{what}{size} in {quantity(plan.shards, 'shard')}{plan.cut}.")
    if planned.images_left < plan.images:
        lines.append(f"{quantity(planned.images_left, 'photo')} of them are still to be done.")
    return lines


def failure_table(counts: Counts) -> list[str]:
    """Returns the failures by code, most frequent first, each with examples."""
    lines = []
    for code, number in counts.error_codes.most_common():
        lines.append(f"  {code}: {number:,}")
        for uri, message in counts.examples.get(code, []):
            lines.append(f"    {printable(uri)}: {printable(message)}")
    return lines
