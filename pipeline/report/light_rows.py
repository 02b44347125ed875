"""Records without their images, as arrays: what the report counts, sorts and selects by."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ConfigError

PHOTO_FIELDS = ("uri", "status", "error_code", "error_message", "width", "height")
FACE_FIELDS = {
    "index": "index",
    "size": "crop_window.size",
    "score": "score",
    "mask_share": "mask_share",
    "points_sigma": "points_sigma",
    "normals_off": "head.quality.normals",
    "disagree": "head.quality.disagree",
}
"""Number of a face -> where it is in the record's face, if it is; `size` is in pixels of the photo."""

COLUMNS = ["id", *PHOTO_FIELDS, *(f"faces.list.element.{path}" for path in FACE_FIELDS.values())]


@dataclass(frozen=True)
class LightRows:
    """Some records.

    Attributes:
        batch: The columns of the photos.
        faces: (R,) int64, faces of each.
        rows: (F,) int64, the row of each face.
        positions: (F,) int64, its position in the row's list.
        of_face: Name -> (F,) float64 of each face; NaN where it is not known.
    """

    batch: pa.RecordBatch
    faces: np.ndarray
    rows: np.ndarray
    positions: np.ndarray
    of_face: dict[str, np.ndarray]

    @property
    def ids(self) -> np.ndarray:
        """(R,) int64 identifiers of the photos."""
        return self.batch["id"].to_numpy()


def light_rows(batch: pa.RecordBatch) -> LightRows:
    """Takes a batch of `COLUMNS` apart; columns that old records lack may be missing."""
    column = batch["faces"]
    faces = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    rows = np.repeat(np.arange(len(faces)), faces)
    flat = column.flatten()
    values = {}
    for name, path in FACE_FIELDS.items():
        values[name] = _numbers(flat, path.split("."))
    return LightRows(batch, faces, rows, np.arange(len(rows)) - (np.cumsum(faces) - faces)[rows], values)


def _numbers(column: pa.Array, path: Sequence[str]) -> np.ndarray:
    for part in path:
        if column.type.get_field_index(part) < 0:
            return np.full(len(column), np.nan)
        column = pc.struct_field(column, part)
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False)


_CONDITION = re.compile(r"\s*(\w+)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*")
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "=": np.equal,
    "!=": np.not_equal,
}
_TEXTS = ("uri", "status", "error_code")
_OF_PHOTO = ("width", "height", "faces")
_OF_FACE = tuple(name for name in FACE_FIELDS if name != "index")


@dataclass(frozen=True)
class Condition:
    """One condition on photos or on faces, such as score<0.5.

    Attributes:
        field: Name of a number or a text.
        sign: How it is compared.
        value: With what: a number, or of a text a pattern with * and ?.
    """

    field: str
    sign: str
    value: str | float

    def rows(self, some: LightRows) -> np.ndarray:
        """Returns which photos meet it, (R,) bool: with a condition on faces those with one that does."""
        if self.field in _OF_FACE:
            met = np.zeros(len(some.faces), bool)
            met[some.rows[self.faces(some)]] = True
            return met
        if isinstance(self.value, str):
            texts = some.batch[self.field].to_pylist()
            same = np.array([fnmatchcase(text or "", self.value) for text in texts], bool)
            return same if self.sign == "=" else ~same
        if self.field == "faces":
            return _COMPARE[self.sign](some.faces, self.value)
        if self.field not in some.batch.schema.names:
            raise ConfigError(f"Records of this run have no {self.field}.")
        return self._compare(some.batch[self.field].cast(pa.float64()).to_numpy(zero_copy_only=False))

    def faces(self, some: LightRows) -> np.ndarray:
        """Returns which faces meet it, (F,) bool: of a condition on photos all on one that does."""
        if self.field in _OF_FACE:
            return self._compare(some.of_face[self.field])
        return self.rows(some)[some.rows]

    def _compare(self, numbers: np.ndarray) -> np.ndarray:
        return _COMPARE[self.sign](numbers, self.value) & ~np.isnan(numbers)


def parse_condition(text: str) -> Condition:
    """Reads FIELD, a sign and a value.

    Raises:
        ConfigError: It is none.
    """
    found = _CONDITION.fullmatch(text)
    names = (*_TEXTS, *_OF_PHOTO, *_OF_FACE)
    if not found or found[1] not in names:
        raise ConfigError(
            f"{text!r} is no condition: it takes a field, one of {' '.join(_COMPARE)}, and a value, such as "
            f"score<0.5 or error_code=no_face. Fields are {', '.join(names)}."
        )
    name, sign, value = found.groups()
    if name in _TEXTS:
        if sign not in ("=", "!="):
            raise ConfigError(f"{text!r}: {name} is a text, to be compared by = or != with a pattern.")
        return Condition(name, sign, value)
    try:
        return Condition(name, sign, float(value))
    except ValueError:
        raise ConfigError(f"{text!r}: {name} is a number, and {value!r} is none.") from None
