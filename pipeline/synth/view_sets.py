"""Several photos of one head, with cameras and vertices: data of reconstruction from many views.

The shape, its skin and hair are the same in all views of a set; camera, pose and camera faults differ, and in
sets that change expression, gaze, light and background, too. No person's shape is quite within the head
model: on demand a smooth field is added, which `vertices` knows and `meta` does not. The photos are casual
ones, cut out about the head: yaw N(0, 26), height N(0, 5), nod N(0, 6), roll N(0, 7) degrees. A set is a
function of seed and number, like a sample.

One row per view: the columns of `pipeline.samples.schema.RENDERED_SCHEMA` and

| column | type | content |
|---|---|---|
| set | int64 | number of the head |
| view | int32 | number of the view |
| vertices | binary | (V, 3) little-endian float32, cm, head space |
| rotation | list of float32 | (9) row-major, head space to camera space |
| translation | list of float32 | (3) cm |
| focal | float32 | in pixels of the crop |
| centre | list of float32 | (2) principal point in pixels of the crop |

A vertex v projects to centre + focal * (x, -y) / -z with (x, y, z) = rotation v + translation.
"""

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field

from pipeline.config import Section
from pipeline.faces.crop import crop_window
from pipeline.geometry.head_model import FACE_VERTICES, FaceModel
from pipeline.samples.schema import RENDERED_SCHEMA
from pipeline.storage.store import Store
from pipeline.synth import looks
from pipeline.synth.clothes import MASK_MOUTH
from pipeline.synth.head import draw_expression
from pipeline.synth.photo import draw_faults
from pipeline.synth.rows import encode_batch
from pipeline.synth.sample import Parameters, Sampler, generator, pose_heads
from pipeline.synth.view import draw_view, rotation_matrix

_FIRST_INDEX = 2**48
"""Sets are numbered from here on, far from the indices of ordinary samples."""

_MOST_VIEWS = 256

_SURROUNDINGS = 2.3
"""Side of a photo over the longer side of the landmarks' box."""

_WAVES = 40
_WAVE_CM = (4.0, 12.0)
"""Number and lengths of the waves whose sum is what a shape has beside the head model."""

MULTIVIEW_SCHEMA = pa.schema(
    [
        *RENDERED_SCHEMA,
        pa.field("set", pa.int64()),
        pa.field("view", pa.int32()),
        pa.field("vertices", pa.binary()),
        pa.field("rotation", pa.list_(pa.float32())),
        pa.field("translation", pa.list_(pa.float32())),
        pa.field("focal", pa.float32()),
        pa.field("centre", pa.list_(pa.float32())),
    ]
)
"""Schema of multi-view shards."""


class MultiviewConfig(Section):
    """How sets are made."""

    views: int = Field(default=4, ge=1, le=_MOST_VIEWS, description="photos of each head")
    changing: float = Field(
        default=0.5, ge=0, le=1, description="share of sets in which expression and light change"
    )
    off_model: float = Field(
        default=0.0, ge=0, description="mm by which shapes are off the head model, root mean square"
    )


def draw_set(sampler: Sampler, number: int, config: MultiviewConfig) -> list[Parameters]:
    """Draws the numbers of all views of one set."""
    index = _FIRST_INDEX + number * _MOST_VIEWS
    common = sampler.parameters(index)
    changing = generator(sampler.seed, index, "set").random() < config.changing
    drawn = []
    for number_of_view in range(config.views):
        rng = generator(sampler.seed, index + number_of_view, "set")
        rng.random()  # the first number told whether the set changes
        head = common.head
        look = replace(common.look, faults=draw_faults(rng, common.portrait))
        if changing:
            expression, kind, eyes, gaze = draw_expression(rng, sampler.model.expression_names)
            head = replace(head, expression=expression, kind=kind, eyes=eyes, gaze=gaze)
            other = looks.draw(rng, common.portrait)
            look = replace(look, light=other.light, backdrop=other.backdrop)
        view = draw_view(rng, common.portrait, _casual_pose)
        window = crop_window(view.project(sampler.landmarks(head)), _SURROUNDINGS)
        drawn.append(
            replace(common, index=index + number_of_view, head=head, view=view, window=window, look=look)
        )
    jaw = sampler.model.expression_index("jawOpen")
    if max(view.head.expression[jaw] for view in drawn) > MASK_MOUTH:  # then nobody of the set wears a mask
        bare = replace(common.look.outfit, mask=0.0)
        drawn = [replace(view, look=replace(view.look, outfit=bare)) for view in drawn]
    return drawn


def _casual_pose(rng: np.random.Generator, portrait: bool) -> np.ndarray:
    """Draws the head's rotation (3, 3) relative to the line of sight."""
    yaw, height, nod, roll = np.radians(rng.normal(0, [26, 5, 6, 7]))
    return rotation_matrix(float(np.clip(yaw, -1.1, 1.1)), height, roll) @ rotation_matrix(0, nod, 0)


def own_shape(model: FaceModel, rng: np.random.Generator, rms_mm: float) -> FaceModel:
    """Moves all vertices of the neutral head by a smooth field, the face's by so many mm."""
    lengths = rng.uniform(*_WAVE_CM, _WAVES)
    directions = rng.normal(size=(_WAVES, 3))
    directions *= (2 * np.pi / lengths / np.linalg.norm(directions, axis=1))[:, None]
    phases = model.neutral.cpu().numpy() @ directions.T + rng.uniform(0, 2 * np.pi, _WAVES)
    field = np.cos(phases) @ (rng.normal(size=(_WAVES, 3)) * lengths[:, None])
    field *= rms_mm / 10 / np.sqrt((field[:FACE_VERTICES] ** 2).sum(1).mean())
    return replace(model, neutral=model.neutral + torch.from_numpy(field).to(model.neutral))


def render_set(sampler: Sampler, number: int, config: MultiviewConfig) -> list[dict[str, Any]]:
    """Renders all views of one set; returns rows of `MULTIVIEW_SCHEMA`."""
    drawn = draw_set(sampler, number, config)
    sampler = copy.copy(sampler)
    rng = generator(
        sampler.seed, _FIRST_INDEX + number * _MOST_VIEWS, "window"
    )  # the stream that sets do not use
    sampler.model = own_shape(sampler.model, rng, config.off_model)
    batch = sampler.render_drawn(drawn)
    vertices, _ = pose_heads(sampler.model, [p.head for p in drawn])
    rows = encode_batch(batch, f"multiview-{sampler.seed}-")
    for view, (row, meta) in enumerate(zip(rows, batch.meta, strict=True)):
        row["id"] = f"multiview-{sampler.seed}-{number:06d}-{view:03d}"
        row |= {"set": number, "view": view, "vertices": vertices[view].cpu().numpy().tobytes()}
        row |= {name: meta[name] for name in ("translation", "focal", "centre")}
        row["rotation"] = [value for line in meta["rotation"] for value in line]
    return rows


def write_sets(store: Store, sampler: Sampler, numbers: Iterable[int], config: MultiviewConfig) -> list[str]:
    """Renders sets, one Parquet file each; sets that are there already are kept.

    Returns:
        Names of the files.
    """
    there = set(store.names())
    names = []
    for number in numbers:
        names.append(f"multiview-{number:06d}.parquet")
        if names[-1] in there:
            continue
        table = pa.Table.from_pylist(render_set(sampler, number, config), MULTIVIEW_SCHEMA)
        with store.create(names[-1]) as file:
            pq.write_table(table, pa.PythonFile(file, mode="w"), compression="zstd")
    return names
