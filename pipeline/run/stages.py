"""The stages of a run, each a callable from message to message over one chunk of photos.

    (shard, chunk) -> Read -> Fetched -> Crop -> Cropped -> Normals -> Estimated -> Write -> Written

Both engines run these and nothing else. Every photo that goes in comes out as one record: what goes wrong
with one photo becomes its record, whatever it is. Only encoded bytes and crops in 8 or 16 bits travel
between stages, never whole decoded photos.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import FacetError, ImageError, ReadError
from pipeline.faces.crop import CROP_SIZE
from pipeline.images.png import encode_png
from pipeline.images.read import PhotoReader, read_bytes
from pipeline.images.sources import ListedFile
from pipeline.normals.encoding import encode_normals
from pipeline.redact import shown_uri
from pipeline.run import records
from pipeline.run.config import RunConfig
from pipeline.run.counts import Counts, count
from pipeline.run.engines.isolate import IsolatedCropper
from pipeline.run.plan import Plan, chunk_photos
from pipeline.run.shards import committed_codes, write_part
from pipeline.storage.store import Store

if TYPE_CHECKING:
    from pipeline.normals.architectures import LoadedWeights

log = logging.getLogger(__name__)

CARRIED_BYTES = 256 << 20
"""Photos of a chunk that are read ahead. Chunks of larger files are rare; what is over the limit is read by
the crop stage, one photo at a time."""


@dataclass(frozen=True)
class Work:
    """What every worker of a run knows.

    Attributes:
        store: The run folder.
        session: Names this process's scratch files, apart from those of earlier sessions.
        plan: The plan of the run.
        config: The resolved configuration.
        codes: Only photos whose committed record has one of these error codes are worked on, and their new
            records take the place of the old ones. Empty: a shard is done as a whole.
    """

    store: Store
    session: str
    plan: Plan
    config: RunConfig
    codes: frozenset[str] = frozenset()


@dataclass
class Message:
    """Base of what travels between stages: which chunk, and the seconds spent on it so far."""

    shard: int
    chunk: int
    seconds: dict[str, float] = field(default_factory=dict, kw_only=True)


@dataclass
class Fetched(Message):
    """Photos with their bytes, with the reason why there are none, or with None: not read yet."""

    photos: list[tuple[ListedFile, bytes | ReadError | None]]


@dataclass
class Cropped(Message):
    """Records whose faces lack normals, and the crops of all faces in the order of the records.

    Attributes:
        records: See `pipeline.run.records`; `normal_png` is missing and `mask_png` is the landmarks' hull.
        crops: (N, 256, 256, 3) uint8 RGB.
        bytes_read: Size of the photos' files.
    """

    records: list[dict[str, Any]]
    crops: np.ndarray
    bytes_read: int


@dataclass
class Estimated(Message):
    """Like `Cropped`, with normals in place of crops.

    Attributes:
        normals: (N, 256, 256, 3) uint8 or uint16, encoded.
        masks: (N, 256, 256) uint8, 255 where the normals are meant; None: the hull stands.
    """

    records: list[dict[str, Any]]
    normals: np.ndarray
    masks: np.ndarray | None
    bytes_read: int


@dataclass
class Written(Message):
    """A chunk whose records are written."""

    counts: Counts


class ReadStage:
    """Fetches the bytes of a chunk's photos."""

    def __init__(self, work: Work):
        self._work = work
        self._reader = PhotoReader(work.config.read)

    def __call__(self, shard: int, chunk: int) -> Fetched:
        """Reads the photos of one chunk."""
        started = time.perf_counter()
        photos = chunk_photos(self._work.store, self._work.plan, shard, chunk)
        if self._work.codes:
            codes = committed_codes(self._work.store, self._work.session, shard)
            photos = [photo for photo in photos if codes.get(photo.id) in self._work.codes]
        carried = np.cumsum([photo.size or 0 for photo in photos]) <= CARRIED_BYTES
        uris = [photo.uri for photo, now in zip(photos, carried, strict=True) if now]
        found = iter(self._reader.up_to(CARRIED_BYTES, uris))
        fetched = [(photo, next(found) if now else None) for photo, now in zip(photos, carried, strict=True)]
        return Fetched(shard, chunk, fetched, seconds={"read": time.perf_counter() - started})


class CropStage:
    """Decodes photos, finds the faces and crops them, all in a child process of its own.

    Of photos with the same bytes the first of the chunk is worked on. The others are left open, with
    `duplicate_of` set, for the write stage to complete.
    """

    def __init__(self, config: RunConfig):
        self._config = config
        # Landmarks from files go by the photo's name: the same bytes may have other faces.
        self._joins_duplicates = config.detect.mode != "files"
        self._crop_photo = IsolatedCropper(config.decode, config.detect, config.limits, config.read.storage)

    def close(self) -> None:
        """Ends the child process, which else ends with this object or this process."""
        self._crop_photo.close()

    def __call__(self, fetched: Fetched) -> Cropped:
        """Starts the record of every photo."""
        started = time.perf_counter()
        rows, crops, bytes_read = [], [], 0
        first_ids: dict[str, int] = {}
        for photo, found in fetched.photos:
            row = records.new_record(photo.id, photo.uri)
            try:
                if isinstance(found, ReadError):
                    raise found
                data = read_bytes(photo.uri, self._config.read) if found is None else found
                bytes_read += len(data)
                row["sha256"] = hashlib.sha256(data).hexdigest()
                first = first_ids.setdefault(row["sha256"], photo.id) if self._joins_duplicates else photo.id
                if first != photo.id:
                    row["duplicate_of"] = first
                else:
                    crops += self._crop(row, data)
            except Exception as error:
                _fail(row, error)
            rows.append(row)
        return Cropped(
            fetched.shard,
            fetched.chunk,
            rows,
            np.stack(crops) if crops else np.empty((0, CROP_SIZE, CROP_SIZE, 3), np.uint8),
            bytes_read,
            seconds={**fetched.seconds, "crop": time.perf_counter() - started},
        )

    def _crop(self, row: dict[str, Any], data: bytes) -> list[np.ndarray]:
        found = self._crop_photo(row["uri"], data)
        row.update(width=found.width, height=found.height)
        if found.error is not None:
            if found.trace:
                found.error.add_note(found.trace)
            raise found.error
        if found.faces:
            row.update(status=records.OK, faces=found.faces)
        else:
            row.update(status=records.NO_FACE, error_code=records.NO_FACE, error_message="No face was found.")
        return found.crops


class NormalsStage:
    """Runs the network over all faces of a chunk at once.

    Args:
        config: Configuration of the run.
        weights: Weights that are loaded already, in place of those that the configuration names.
    """

    def __init__(self, config: RunConfig, weights: LoadedWeights | None = None):
        # Here, since the workers of the other stages do not need torch, which is slow to import and large.
        from pipeline.normals.inference import NormalsEstimator

        normals = config.normals
        self._output = config.output
        self._estimate = NormalsEstimator(
            weights or normals.weights, normals.device, normals.batch_size, normals.mirror, normals.precision
        )

    def __call__(self, cropped: Cropped) -> Estimated:
        """Estimates normals and masks."""
        started = time.perf_counter()
        rows, crops = cropped.records, cropped.crops
        try:
            normals, masks = self._run(crops)
        except FacetError:
            raise
        except Exception:
            log.exception("The network failed on a batch of %d faces; taking photo by photo.", len(crops))
            normals, masks = self._run_one_by_one(rows, crops)
        return Estimated(
            cropped.shard,
            cropped.chunk,
            rows,
            normals,
            masks,
            cropped.bytes_read,
            seconds={**cropped.seconds, "normals": time.perf_counter() - started},
        )

    def _run(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        estimated = self._estimate(crops)
        pixels = encode_normals(estimated.normals, self._output.bits, self._output.convention)
        return pixels, estimated.mask

    def _run_one_by_one(
        self, rows: list[dict[str, Any]], crops: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        parts = []
        ends = np.cumsum([len(row["faces"]) for row in rows])
        for row, own in zip(rows, np.split(crops, ends[:-1]), strict=True):
            try:
                if len(own):
                    parts.append(self._run(own))
            except FacetError:
                raise
            except Exception as error:
                _fail(row, error)
        if not parts:
            return self._run(crops[:0])
        normals, masks = zip(*parts, strict=True)
        return np.concatenate(normals), None if masks[0] is None else np.concatenate(masks)


class WriteStage:
    """Encodes normals and masks and writes the records of a chunk."""

    def __init__(self, work: Work):
        self._work = work

    def __call__(self, estimated: Estimated) -> Written:
        """Writes one part of a shard."""
        started = time.perf_counter()
        rows, work = estimated.records, self._work
        faces = [face for row in rows for face in row["faces"]]
        for index, face in enumerate(faces):
            face["normal_png"] = encode_png(estimated.normals[index])
            if estimated.masks is not None:
                face["mask_png"] = encode_png(estimated.masks[index])
        records.complete_duplicates(rows)
        write_part(work.store, work.session, estimated.shard, estimated.chunk, records.to_table(rows))
        seconds = {**estimated.seconds, "write": time.perf_counter() - started}
        counts = count(rows, estimated.bytes_read, seconds)
        return Written(estimated.shard, estimated.chunk, counts, seconds=seconds)


def _fail(row: dict[str, Any], error: Exception) -> None:
    # A FacetError that is not about one photo (weights, output, ...) ends the run.
    if isinstance(error, FacetError) and not isinstance(error, ImageError):
        raise error
    records.set_failed(row, error)
    if row["error_code"] == records.INTERNAL_ERROR:
        log.error("Photo %d failed unexpectedly: %s", row["id"], shown_uri(row["uri"]), exc_info=error)
