"""Writes report/index.html of a run, from what is in its folder."""

from __future__ import annotations

import json

from pipeline.errors import ImageError
from pipeline.report.facts import run_facts
from pipeline.report.page import render_page
from pipeline.report.sheet import Card, DecodePhoto, ReadBytes, card_of, photo_of, thumbnails_of
from pipeline.report.tally import read_rows, tally_records
from pipeline.run.markers import committed_shards
from pipeline.storage.store import Store

PAGE = "report/index.html"
HEADS = "heads.html"
"""The page beside it that a run of heads has."""


FACES = 48
"""Most faces on the contact sheet; each takes about 150 kB of the page."""

FACELESS = 12
"""Most photos without a face to show."""

EXAMPLES = 5
"""Most examples of each error code."""

THUMBNAIL_SIZE = 480
"""Longer side of the photos' thumbnails in pixels."""


def write_report(store: Store, read: ReadBytes, decode: DecodePhoto) -> str:
    """Writes the page of a run that is complete or was stopped; what is committed counts.

    Returns:
        Path of the page, as the store's file system takes it.

    Raises:
        OutputError: The folder cannot be read or written.
    """
    run = run_facts(json.loads(store.read("run.json")))
    shards = [f"records/shard-{shard:05d}.parquet" for shard in sorted(committed_shards(store))]
    tally = tally_records(store, shards, FACES, EXAMPLES, FACELESS)
    rows = read_rows(store, shards, [*tally.shown, *tally.faceless])
    thumbnails = thumbnails_of(list(rows.values()), read, decode, THUMBNAIL_SIZE)
    photos = {
        place: photo_of(row, thumbnail)
        for (place, row), thumbnail in zip(rows.items(), thumbnails, strict=True)
    }
    cards: list[Card] = []
    lost = 0
    for place, positions in tally.shown.items():
        for position in positions:
            try:
                cards.append(card_of(rows[place], position, photos[place], run.convention))
            except (KeyError, ImageError):
                lost += 1
    alerts = [f"The records {reason}" for reason in tally.unreadable]
    if lost:
        alerts.append(f"Faces whose images could not be read back from the records: {lost}.")
    faceless = [photos[place] for place in tally.faceless if place in photos]
    heads = HEADS if HEADS in store.names("report") else ""
    store.write(PAGE, render_page(run, tally, cards, faceless, alerts, heads=heads).encode("utf-8"))
    return store.place(PAGE)
