"""Turns folders of pictures into training data.

Which files make a row is told in `pipeline.samples.pictures`; what a row lacks is null.
"""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DataError, FacetError
from pipeline.faces.crop import crop_image, crop_window
from pipeline.faces.detect import FaceFinder
from pipeline.images.png import encode_png
from pipeline.normals.encoding import Convention, decode_normals, encode_normals
from pipeline.pixels import resize
from pipeline.processes import map_ahead
from pipeline.samples.pictures import decode_any_photo, pair_pictures, what_it_holds
from pipeline.samples.rows import BadRows
from pipeline.samples.sample import MASK, counts_in, decode_normal_map, decode_picture, resize_normals
from pipeline.samples.schema import SCHEMA, SIZE
from pipeline.storage.store import Store

ROWS_PER_FILE = 2048
ROWS_PER_GROUP = 64


@dataclass(frozen=True)
class Converted:
    """What `convert_folder` wrote.

    Attributes:
        rows: paired, images alone, normals alone -> rows.
        unused: What belongs to no row, a line for each reason.
    """

    rows: Counter[str]
    unused: list[str]


def convert_folder(
    folder: str,
    out: str,
    bad: BadRows,
    *,
    convention: Convention = "opengl",
    finder: FaceFinder | None = None,
    size: int = SIZE,
    threads: int = 4,
) -> Converted:
    """Converts a folder of pictures into Parquet files of the training schema.

    Args:
        folder: See the module; local or a URL.
        out: Folder for the files `part-00000.parquet` ..., local or a URL.
        bad: Takes the rows that cannot be used.
        convention: Axes of the normal maps.
        finder: If given, faces are looked for in the photos and cut out by the product's rule, the labels by
            the same window; the largest face makes the row. Without it the pictures must be square crops.
        size: Side of the stored crops in pixels.
        threads: Rows converted at the same time; one if faces are looked for.

    Raises:
        DataError: The folder holds no pictures, or not one row could be converted.
    """
    source, target = Store(folder), Store(out)
    pairing = pair_pictures(source)
    if not pairing.rows:
        left_out = f" ({'; '.join(pairing.lines())})" if pairing.unused else ""
        raise DataError(f"{folder} holds no pictures in images/ or normals/{left_out}.")

    def convert(item: tuple[str, Mapping[str, str]]) -> dict | None:
        name, files = item
        try:
            data = {column: source.read(file) for column, file in files.items()}
            return {"id": name, **convert_row(data, convention, finder, size)}
        except (FacetError, FileNotFoundError) as error:
            bad.add(f"{name} of {folder}", str(error))
        return None

    written: Counter[str] = Counter()
    with ThreadPoolExecutor(1 if finder else threads) as pool:
        rows = (
            row
            for row in map_ahead(lambda item: pool.submit(convert, item), pairing.rows.items(), 4 * threads)
            if row is not None
        )
        for index in range(len(pairing.rows)):
            part = list(islice(rows, ROWS_PER_FILE))
            if not part:
                break
            table = pa.Table.from_pylist(part, SCHEMA)
            with target.create(f"part-{index:05d}.parquet") as file:
                pq.write_table(table, pa.PythonFile(file, mode="w"), row_group_size=ROWS_PER_GROUP)
            written.update(map(what_it_holds, part))
    if not written:
        raise DataError(f"Not one row of {folder} could be converted; the log names the reasons.")
    return Converted(written, pairing.lines())


def convert_row(
    data: Mapping[str, bytes], convention: Convention, finder: FaceFinder | None, size: int
) -> dict[str, object]:
    """Converts the files of one row: crop, resize, our axes, PNG.

    Returns:
        Columns of the row, without `id`.

    Raises:
        DataError: A file cannot be decoded, the files differ in size, or there is no face or no square.
    """
    image = decode_any_photo(data["image"]) if "image" in data else None
    pixels = decode_picture(data.get("normal"), "normal", cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH)
    mask = decode_picture(data.get("mask"), "mask", MASK)
    shapes = {picture.shape[:2] for picture in (image, pixels, mask) if picture is not None}
    if len(shapes) > 1:
        raise DataError("image and labels differ in size")
    height, width = shapes.pop()
    row: dict[str, object] = {}
    window = None
    if finder is not None:
        if image is None:
            raise DataError("there is no photo to look for a face in: convert crops of normals as they are")
        faces = finder(image)
        if not faces:
            raise DataError("no face was found")
        window = crop_window(faces[0].landmarks)
        image = crop_image(image, window, size)
        row["landmarks"] = window.to_crop(faces[0].landmarks, size).astype(np.float32).ravel()
    elif height != width:
        raise DataError(f"the picture is not square ({width}x{height}): use --crop for photos")
    elif image is not None:
        image = resize(image, size, size)
    if image is not None:
        row["image"] = encode_png(image)
    if pixels is not None:
        normals, valid = decode_normal_map(pixels)
        if mask is not None:
            valid &= counts_in(mask)
        # Only signs differ between the conventions: lengths, hence validity, do not.
        normals = decode_normals(pixels, convention) * valid[..., None]
        normals = resize_normals(normals if window is None else window.cut(normals), size)
        if window is not None:
            normals[window.beyond(width, height, size)] = 0
        if not normals.any():
            raise DataError("the normal map has no valid pixel")
        row["normal"] = encode_png(encode_normals(normals, bits=8 * pixels.itemsize))
        row["mask"] = encode_png(np.where(normals.any(-1), 255, 0).astype(np.uint8))
    return row
