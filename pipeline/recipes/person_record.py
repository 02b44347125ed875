"""Records of people with heads: the photos of each, and the head in every photo that shows them.

A person's faces are those of `pipeline.recipes.head_record`, one for each photo that was used; the identity
is the same in all of them, and the vertices of their meshes correspond.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from pipeline.recipes import head_record
from pipeline.recipes.crop_stage import NO_FACE
from pipeline.recipes.face_record import SCHEMA as PHOTO_SCHEMA
from pipeline.run.recipe import FileBeside
from pipeline.run.records import PLACE, field, outcome

_FACTS = ("width", "height", "focal_mm", "focal_35mm")

PHOTO = pa.struct(
    [
        field("id", pa.int64(), "Identifier of the photo."),
        field("uri", pa.string(), "Where the photo is."),
        field(
            "status",
            pa.string(),
            "ok: it can be used, and of a record that is ok a head is fitted to it; "
            "rejected: it does not show this person, or no head fits; "
            "left_out: there are enough others, or it is there twice; "
            "else the code of what is wrong with it.",
        ),
        field("reason", pa.string(), "Why it is not used; null when ok."),
        field(
            "likeness",
            pa.float64(),
            "Cosine of the shapes found in it alone and in the other photos: 1 is the same. Of "
            "pairs of renders of one person 1 % were below .2, of different people 16 %.",
        ),
        *(PHOTO_SCHEMA.field(name) for name in _FACTS),
    ]
)

COST = pa.struct(
    [
        field(
            "stage",
            pa.string(),
            "Stage of the fit: mean, points, normals, and of several photos photometric.",
        ),
        field("before", pa.float64(), "What the head costs before it."),
        field("after", pa.float64(), "And after it."),
        field("refused", pa.string(), "Why the head is that of the stage before; null where it is not."),
    ]
)

FACE = pa.struct([*head_record.FACE, field("photo", pa.int32(), "Which of the photos it is on, from 0.")])

SCHEMA = pa.schema(
    [
        *PLACE,
        *outcome("faces", NO_FACE),
        field("photos", pa.list_(PHOTO), "The photos of the person, in the order of their names."),
        field("costs", pa.list_(COST), "What every stage of the fit gained."),
        field("faces", pa.list_(FACE), "The person's face on each photo that is used.", False),
    ]
)
"""Schema of the files in records/."""


_ADDED = [
    *(f"photos.list.element.{part.name}" for part in PHOTO),
    *(f"costs.list.element.{part.name}" for part in COST),
    "faces.list.element.photo",
]
_COMPRESSION = head_record.FORMAT.parquet["compression"]
_OPTIONS = head_record.FORMAT.parquet | {
    "compression": {name: kind for name, kind in _COMPRESSION.items() if name not in _FACTS}
    | dict.fromkeys(_ADDED, "ZSTD"),
    "write_statistics": [field.name for field in SCHEMA if field.name not in ("photos", "costs", "faces")],
}


def photo_rows(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields for every photo of a person with a head the record that `facet details` would write of it.

    The first says under "left_out" which photos were not used, and all under "person" where they are.
    """
    left_out = [photo for photo in row["photos"] or [] if photo["status"] != "ok"]
    for face in row["faces"]:
        photo = row["photos"][face["photo"]]
        alone = {name: value for name, value in face.items() if name != "photo"}
        yield photo | {
            "person": row["uri"],
            "left_out": left_out,
            "status": "ok",
            "faces": [alone | {"index": 0}],
        }
        left_out = []


def check_person(row: dict[str, Any], config: Any, thorough: bool) -> Iterator[str]:
    """Yields what is wrong with a record; see `pipeline.run.recipe.RecordFormat.check`."""
    if row["status"] != "ok":
        return
    photos = row["photos"] or []
    if not photos:
        yield "has no photos"
    numbers = [face["photo"] for face in row["faces"]]
    used = [k for k, photo in enumerate(photos) if photo["status"] == "ok"]
    if numbers != used:
        yield f"has heads on the photos {numbers}, and says that {used} have one"
        return
    if any(face["head"] is None for face in row["faces"]):
        yield "has a face without a head"
    for of_photo in photo_rows(row):
        yield from (
            f"{reason} (photo {of_photo['uri']})"
            for reason in head_record.check_heads(of_photo, config, thorough)
        )


def person_files(table: pa.Table, config: Any) -> Iterator[FileBeside]:
    """Yields the files of the pictures of every head, named after its photo's identifier."""
    for number in range(len(table)):
        (row,) = table.slice(number, 1).to_pylist()
        for of_photo in photo_rows(row):
            for file in head_record.head_files(pa.Table.from_pylist([of_photo]), config):
                yield file._replace(id=row["id"])


def itself(table: pa.Table) -> Iterator[str]:
    """Yields for every row its own identifier: a record names its photos, so that no two are alike."""
    return map(str, table["id"].to_pylist())


FORMAT = replace(
    head_record.FORMAT,
    schema=SCHEMA,
    parquet=_OPTIONS,
    told_apart_by=itself,
    files=person_files,
    check=check_person,
    bytes_per_photo=6_000_000,
)
