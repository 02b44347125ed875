"""The one Parquet schema of training and evaluation data.

One row is one face crop, by default 256x256 pixels. Every label is optional and may be null:

| column | type | content |
|---|---|---|
| id | string | unique name of the row |
| image | binary | PNG or JPEG, RGB: the crop |
| normal | binary | PNG, RGB, 8 or 16 bit: camera-space normals, see `pipeline.normals.encoding` |
| mask | binary | PNG, greyscale: 255 where the normal is true and meant |
| regions | binary | PNG, greyscale: a `pipeline.regions.Region` per pixel, finer than the mask |
| landmarks | list of float32 | 68 landmarks as x0, y0, x1, y1 ... in pixels of the crop |
| meta | string | JSON object: what made or describes the row (`yaw`, `skin_tone`, `light` ...) |

Where `meta` holds `focal` and `centre` (focal length and principal point of the photo's camera, in pixels of
the crop), the normals are taken to be in that camera's space, and are turned to that of the crop camera
before anything is learned or measured; see `pipeline.geometry.crop_camera`. Without them they are taken as
they are.

A row with image and normal is *paired*; with one of the two it is unpaired. Rendered rows also carry the
columns of `RENDERED_FIELDS`. The records that `facet normals` writes are image-only data as they are:
their `faces[].crop_png` are the images.
"""

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", pa.binary()),
        pa.field("normal", pa.binary()),
        pa.field("mask", pa.binary()),
        pa.field("regions", pa.binary()),
        pa.field("landmarks", pa.list_(pa.float32())),
        pa.field("meta", pa.string()),
    ]
)
"""Columns that training and evaluation read."""

RENDERED_FIELDS = (
    # 16-bit greyscale PNG; cm from the camera = value * meta["depth_scale"] + meta["depth_offset"]; 0 = none.
    pa.field("depth", pa.binary()),
    # Points of the face surface as x0, y0, z0 ...: x, y in crop pixels, z = depth in cm.
    pa.field("dense", pa.list_(pa.float32())),
    pa.field("dense_visible", pa.list_(pa.bool_())),
)
"""Columns that the renderer adds; training of normals does not read them."""

RENDERED_SCHEMA = pa.schema([*SCHEMA, *RENDERED_FIELDS])
"""Schema of the shards that the renderer writes."""

SIZE = 256
"""Side of a crop in pixels."""
