"""Checks one committed shard: its files against its marker, its records against the plan and their schema.

Everything is read and every image decoded. Only the lengths of the normals are checked on a sample, on
every `NORMALS_EVERY`th record with faces: that takes long.
"""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DecodeError
from pipeline.faces.crop import CROP_SIZE
from pipeline.images.png import decode_png
from pipeline.images.sources import ListedFile
from pipeline.run import records
from pipeline.run.config import OutputConfig
from pipeline.run.counts import Counts, count_table
from pipeline.run.markers import Marker, file_sizes, find_marker, png_folder, records_name, tar_name
from pipeline.run.plan import Plan, shard_photos
from pipeline.run.shards import open_hashed, png_files
from pipeline.storage.store import Store

ROWS_AT_ONCE = 16
NORMALS_EVERY = 8

MOST_REASONS = 5
"""Reasons kept per shard: one fault is often in every row."""

GREY, RGB = 0, 2
"""Colour types of PNG."""

Pngs = list[tuple[str, int]]
"""Names of PNG files with their sizes in bytes."""


@dataclass
class ShardCheck:
    """What came of checking a shard.

    Attributes:
        shard: Number of the shard.
        counts: What its records add up to.
        reasons: What is wrong with it; empty when it is sound.
        more: Further reasons that were not kept.
    """

    shard: int
    counts: Counts = field(default_factory=Counts)
    reasons: list[str] = field(default_factory=list)
    more: int = 0

    def add(self, reason: str) -> None:
        """Notes that something is wrong."""
        if len(self.reasons) < MOST_REASONS:
            self.reasons.append(reason)
        else:
            self.more += 1


def check_shard(store: Store, plan: Plan, shard: int, output: OutputConfig) -> ShardCheck:
    """Checks a committed shard.

    Args:
        store: The run folder.
        plan: The plan of the run.
        shard: Number of the shard.
        output: What the run writes.

    Raises:
        OutputError: The folder or its plan cannot be read, which says nothing of the shard.
    """
    found = ShardCheck(shard)
    photos = shard_photos(store, plan, shard)
    marker = find_marker(store, shard)
    if marker is None:
        found.add("its marker is damaged")
        return found
    if marker.shard != shard:
        found.add(f"its marker is that of shard {marker.shard}")
    names = [records_name(shard), *([tar_name(shard)] if output.png == "tar" else [])]
    if sorted(file.name for file in marker.files) != sorted(names):
        found.add(f"its marker does not name {' and '.join(names)} alone")
    pngs = _check_file(
        found, store, marker, names[0], lambda file: _check_records(found, file, photos, output)
    )
    if pngs is None:
        return found
    for line in _differences(found.counts, marker.counts):
        found.add(line)
    if output.png == "tar":
        _check_file(found, store, marker, names[1], lambda file: _check_tar(found, file, pngs))
    elif output.png == "folder":
        _check_folder(found, store, pngs)
    return found


def _check_file(found: ShardCheck, store: Store, marker: Marker, name: str, check: Any) -> Any:
    """Checks a file against the marker and, when it is what was written, by `check`; None if it is not."""
    written = next((file for file in marker.files if file.name == name), None)
    try:
        with open_hashed(store, name) as (file, size, digest):
            if written and size != written.size:
                found.add(f"{name} has {size:,} bytes, and its marker says {written.size:,}")
            elif written and digest != written.sha256:
                found.add(f"{name} has other content than its marker says")
            else:
                return check(file)
    except FileNotFoundError:
        found.add(f"{name} is missing")
    return None


def _check_records(
    found: ShardCheck, file: BinaryIO, photos: Sequence[ListedFile], output: OutputConfig
) -> Pngs | None:
    pngs: Pngs = []
    ids: list[int] = []
    uris = [photo.uri for photo in photos]
    duplicates = records.DuplicateFinder()
    with_faces = 0
    try:
        parquet = pq.ParquetFile(file)
        if not parquet.schema_arrow.equals(records.SCHEMA):
            found.add("its records have another schema")
            return None
        for batch in parquet.iter_batches(ROWS_AT_ONCE):
            table = pa.Table.from_batches([batch])
            found.counts += count_table(table)
            for row in table.to_pylist():
                for reason in check_record(row, output, lengths=with_faces % NORMALS_EVERY == 0):
                    found.add(f"photo {row['id']} {reason}")
                with_faces += bool(row["faces"])
                if len(ids) < len(uris) and row["id"] == photos[len(ids)].id and row["uri"] != uris[len(ids)]:
                    found.add(f"photo {row['id']} has another uri than in the plan")
                ids.append(row["id"])
            if not duplicates.mark(table)["duplicate_of"].equals(table["duplicate_of"]):
                found.add(f"its duplicates are not what duplicate_of says, before row {len(ids)}")
            pngs += [(name, len(data or b"")) for name, data in png_files(table)]
    except (pa.ArrowException, OSError) as error:
        found.add(f"its records cannot be read: {' '.join(str(error).split())}")
        return None
    if difference := _compare_ids(ids, [photo.id for photo in photos]):
        found.add(difference)
    return pngs


def _compare_ids(ids: list[int], planned: list[int]) -> str | None:
    if ids == planned:
        return None
    missing, foreign = len(set(planned) - set(ids)), len(set(ids) - set(planned))
    repeated = len(ids) - len(set(ids))
    if missing or foreign or repeated:
        return (
            f"of its plan's {len(planned):,} photos {missing:,} are missing; {foreign:,} of its records are "
            f"of other photos, and {repeated:,} are repeated"
        )
    return "its records are not in the order of the plan"


def check_record(row: dict[str, Any], output: OutputConfig, *, lengths: bool = True) -> Iterator[str]:
    """Yields what is wrong with a record, to be read after the photo's name.

    Args:
        row: A row of the records.
        output: What the run writes.
        lengths: Whether to check that normals have unit length.
    """
    status, code, message, faces = (row[name] for name in ("status", "error_code", "error_message", "faces"))
    if status not in records.STATUSES:
        yield f"has the unknown status {status!r}"
        return
    if bool(faces) != (status == records.OK):
        yield f"has {len(faces)} faces and the status {status}"
    expected = {records.OK: code is None, records.NO_FACE: code == records.NO_FACE}
    if not expected.get(status, code not in (None, records.NO_FACE)):
        yield f"has the error code {code!r} and the status {status}"
    if (message is None) != (status == records.OK):
        yield f"has the error message {message!r} and the status {status}"
    if status != records.FAILED:
        for name in ("width", "height", "sha256"):
            if not row[name]:
                yield f"has no {name}"
    for place, face in enumerate(faces):
        lacking = [name for name in records.FACE.names if face is None or face[name] is None]
        if lacking:
            yield f"has a face without {', '.join(lacking)}"
            continue
        if face["index"] != place:
            yield f"has face {face['index']} in place {place}"
        yield from (f"has a face {reason}" for reason in _check_geometry(face, row["width"], row["height"]))
        yield from (f"has a face {reason}" for reason in _check_images(face, output, lengths))


def _check_geometry(face: dict[str, Any], width: int | None, height: int | None) -> Iterator[str]:
    landmarks = np.array(face["landmarks"], float)
    if landmarks.shape != (136,) or not np.isfinite(landmarks).all():
        yield "whose landmarks are not 68 points"
    if not np.isfinite(np.array(face["box"], float)).all():
        yield "whose box is not finite"
    window = face["crop_window"]
    left, top, size = window["left"], window["top"], window["size"]
    if None in (left, top, size) or size < 1:
        yield "without a window"
    elif width and height and not (0 <= left <= width - size and 0 <= top <= height - size):
        yield "whose window is not within the photo"


def _check_images(face: dict[str, Any], output: OutputConfig, lengths: bool) -> Iterator[str]:
    images: dict[str, np.ndarray] = {}
    for name, bits, colour in (("crop", 8, RGB), ("normal", output.bits, RGB), ("mask", 8, GREY)):
        data = face[f"{name}_png"]
        header = struct.pack(">IIBB", CROP_SIZE, CROP_SIZE, bits, colour)
        if data[16:26] != header:
            yield f"whose {name}_png is no PNG of {CROP_SIZE}x{CROP_SIZE} pixels of the right kind"
            continue
        try:
            images[name] = decode_png(data)
        except DecodeError:
            yield f"whose {name}_png cannot be decoded"
    mask, normals = images.get("mask"), images.get("normal")
    if mask is not None and not np.isin(mask, (0, 255)).all():
        yield "whose mask has values other than 0 and 255"
    if lengths and mask is not None and normals is not None:
        off = length_error(normals[mask == 255])
        if off > allowed_length_error(output.bits):
            yield f"whose normals are not of unit length: off by up to {off:.3g}"


def length_error(pixels: np.ndarray) -> float:
    """Returns how much the length of encoded normals differs from 1 at most; 0 where there are none.

    Args:
        pixels: (N, 3) uint8 or uint16; see `pipeline.normals.encoding`.
    """
    # Whatever the convention: it changes signs alone.
    values = pixels.astype(np.float32) / ((2 ** (8 * pixels.itemsize) - 1) / 2) - 1
    return float(np.abs(np.linalg.norm(values, axis=-1) - 1).max(initial=0))


def allowed_length_error(bits: int) -> float:
    """Returns what rounding to so many bits does to a unit vector at most, and a little more."""
    return 3**0.5 / (2**bits - 1) + 1e-5


def _differences(found: Counts, marked: Counts) -> Iterator[str]:
    ours, theirs = found.to_json(), marked.to_json()
    for name in ("images", "faces", "duplicates", "status", "error_code", "examples"):
        if ours[name] != theirs[name]:
            values = "" if name == "examples" else f": {ours[name]}, and its marker says {theirs[name]}"
            yield f"its records differ from its marker in {name}{values}"


def _check_tar(found: ShardCheck, file: BinaryIO, pngs: Pngs) -> None:
    name = tar_name(found.shard)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            held = [(member.name, member.size) for member in tar]
    except (tarfile.TarError, OSError) as error:
        found.add(f"{name} cannot be read: {error}")
        return
    if held != pngs:
        found.add(f"{name} does not hold the images of the records")


def _check_folder(found: ShardCheck, store: Store, pngs: Pngs) -> None:
    sizes = file_sizes(store, png_folder(found.shard)) if pngs else {}
    if missing := [name for name, _ in pngs if name not in sizes]:
        found.add(f"{len(missing):,} files are missing in {png_folder(found.shard)}, {missing[0]} first")
    if cut := [name for name, size in pngs if sizes.get(name, size) != size]:
        found.add(f"{len(cut):,} files in {png_folder(found.shard)} are not whole, {cut[0]} first")
