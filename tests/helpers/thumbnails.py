"""A recipe that is not about faces: thumbnails of the photos of a folder and their mean colour."""

import io

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.errors import DecodeError
from pipeline.images.items import one_subject_each
from pipeline.run.config import RunConfig
from pipeline.run.recipe import FileBeside, Recipe, RecordFormat, Stage
from pipeline.run.records import PLACE, field, outcome

SIZE = 8


class Shrink:
    """Makes a thumbnail of every photo; what is no photo fails alone, unless there is no other."""

    def __call__(self, item):
        item.handed_on = []
        for photo in item.photos:
            if photo.data and photo.data.startswith(b"\x89PNG"):
                image = Image.open(io.BytesIO(photo.data)).convert("RGB").resize((SIZE, SIZE))
                item.handed_on.append((photo.file.uri, np.asarray(image)))
        if not item.handed_on:
            raise DecodeError("There is no PNG in this folder.")


class MeanColour:
    """Takes the mean of all thumbnails of a chunk at once; black folders hold nothing."""

    def __call__(self, items):
        for item in items:
            means = [pixels.reshape(-1, 3).mean(axis=0) for _, pixels in item.handed_on]
            item.record["colour"] = np.mean(means, axis=0).tolist()
            if max(item.record["colour"]) == 0:
                item.end_empty("no_light", "All photos are black.")


def finish(item, config):
    item.record["thumbnails"] = [{"uri": uri, "rgb": pixels.tobytes()} for uri, pixels in item.handed_on]


def colours(table):
    return map(str, table["colour"].to_pylist())


def files(table, config):
    for row in table.to_pylist():
        for number, thumbnail in enumerate(row["thumbnails"]):
            yield FileBeside(f"{row['id']}-{number}.rgb", row["id"], thumbnail["uri"], thumbnail["rgb"])


def check(row, config, thorough):
    if any(len(thumbnail["rgb"]) != 3 * SIZE**2 for thumbnail in row["thumbnails"]):
        yield "has a thumbnail of another size"


def write_page(store, config):
    store.write("report/index.html", b"<p>Thumbnails</p>")
    return store.place("report/index.html")


THUMBNAIL = pa.struct([field("uri", pa.string(), "The photo."), field("rgb", pa.binary(), "Pixels.")])
COLOUR = field("colour", pa.list_(pa.float64(), 3), "Mean colour.")
THUMBNAILS = field("thumbnails", pa.list_(THUMBNAIL), "One per photo.", False)
SCHEMA = pa.schema([*PLACE, *outcome("thumbnails", "no_light"), COLOUR, THUMBNAILS])
FORMAT = RecordFormat(SCHEMA, "thumbnails", "no_light", (), {}, finish, colours, files, check, 1000)
STAGES = (Stage("shrink", Shrink, isolated=True), Stage("mean", MeanColour, "network"))
RECIPE = Recipe(
    "thumbnails", RunConfig, STAGES, FORMAT, item="folder", group=one_subject_each, report=write_page
)
