"""Writes report/index.html of a run, from what is in its folder."""

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.errors import ImageError
from pipeline.processes import available_cpus
from pipeline.report.facts import run_facts
from pipeline.report.light_rows import parse_condition
from pipeline.report.page import render_page
from pipeline.report.sheet import (
    Card,
    DecodePhoto,
    ReadBytes,
    card_of,
    of_one_photo,
    photo_of,
    thumbnails_of,
)
from pipeline.report.spread import pace
from pipeline.report.tally import Place, read_rows, some_shards, tally_records
from pipeline.run.markers import add_up, committed_shards, read_markers, records_name
from pipeline.run.recipe import PAGE
from pipeline.storage.store import Store

HEADS = "heads.html"
"""The page beside it that a run of heads has."""


FACES = 48
"""Most faces on the contact sheet; each takes about 150 kB of the page."""

FACELESS = 12
"""Most photos without a face to show."""

EXAMPLES = 5
"""Most examples of each error code."""


def write_report(store: Store, read: ReadBytes, decode: DecodePhoto, item: str = "photo") -> str:
    """Writes the page of a run that is complete or was stopped; what is committed counts.

    `item` is what a record is of, for the words of the page.

    Returns:
        Path of the page, as the store's file system takes it.

    Raises:
        OutputError: The folder cannot be read or written.
    """
    store.write(PAGE, make_report(store, read, decode, item=item).encode("utf-8"))
    return store.place(PAGE)


def make_report(
    store: Store, read: ReadBytes, decode: DecodePhoto, where: Sequence[str] = (), item: str = "photo"
) -> str:
    """Returns the page of a run, or of a part of it.

    Args:
        store: See `write_report`.
        read: See there.
        decode: See there.
        where: Conditions that photos and faces must meet, see `pipeline.report.light_rows.parse_condition`.
        item: See `write_report`.

    Raises:
        ConfigError: A condition is none.
        OutputError: The folder cannot be read.
    """
    conditions = [parse_condition(text) for text in where]
    state = json.loads(store.read("run.json"))
    run = run_facts(state)
    committed = committed_shards(store)
    markers = [] if where else read_markers(store, committed)
    shards = [records_name(shard) for shard in (sorted(committed) if where else some_shards(markers))]
    faceless = FACES if where else FACELESS
    has_images = state["config"]["output"].get("images") != "none"
    tally = tally_records(store, shards, FACES if has_images else 0, EXAMPLES, faceless, conditions)
    seen = tally.photos
    if not where:
        tally.take(add_up(markers))
    if where or not has_images or tally.faces <= FACES:
        tally.worst = {}  # what is shown is what was asked for, or all there is
    faces = [(place, position) for place, positions in tally.shown.items() for position in positions]
    faces += [face for of_reason in tally.worst.values() for face in of_reason]
    rows = read_rows(store, shards, [*(place for place, _ in faces), *tally.faceless])
    alone = {
        (place, position): of_one_photo(rows[place], position) for place, position in faces if place in rows
    }
    wanted = {row["uri"]: row for row, _ in alone.values()}
    wanted |= {rows[place]["uri"]: rows[place] for place in tally.faceless if place in rows}
    lost: list[Place] = []
    with ThreadPoolExecutor(available_cpus(), "facet-report") as pool:
        thumbnails = thumbnails_of(list(wanted.values()), read, decode, pool)
        photos = {
            uri: photo_of(row, thumbnail)
            for (uri, row), thumbnail in zip(wanted.items(), thumbnails, strict=True)
        }

        def card(face: tuple[Place, int]) -> Card | None:
            try:
                row, position = alone[face]
                return card_of(row, position, photos[row["uri"]], run.convention)
            except (KeyError, ImageError):
                lost.append(face[0])
                return None

        def cards_of(faces: Iterable[tuple[Place, int]]) -> list[Card]:
            return [made for made in pool.map(card, faces) if made]

        shown = ((place, position) for place, positions in tally.shown.items() for position in positions)
        cards = cards_of(shown)
        worst_cards = {reason: cards_of(faces) for reason, faces in tally.worst.items()}
    alerts = [f"The records {reason}" for reason in tally.unreadable]
    if not has_images:
        alerts.append("The records of this run hold no images (output.images): there are no faces to show.")
    if lost:
        alerts.append(f"Faces whose images could not be read back from the records: {len(lost)}.")
    over_time = None if where else pace(markers, state["started"])
    return render_page(
        run,
        tally,
        cards,
        [photos[rows[place]["uri"]] for place in tally.faceless if place in rows],
        alerts,
        worst=worst_cards,
        seen=seen,
        item=item,
        spreads=[*tally.spreads, *([over_time] if over_time else [])],
        selection=" and ".join(where),
        heads=HEADS if not where and HEADS in store.names("report") else "",
    )
