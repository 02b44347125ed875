"""Scores of the heads of a run against scans of the same people, stage by stage of the method.

    mean       the mean face of the head model: what any answer has to beat
    points     the fit to the points alone, made again from the record
    proxy      the fitted head
    detailed   the mesh that carries the displacement

What the figures mean is told in `pipeline.evaluate.shapes`. They are of the dense points of the head model
within `REACH` of the tip of the nose.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pipeline.details.config import DetailsConfig
from pipeline.details.head import Head
from pipeline.details.kit import HeadKit, head_kit
from pipeline.errors import DataError
from pipeline.evaluate import shapes
from pipeline.fitting.fit import FitError, fit_views
from pipeline.fitting.observe import normals_of_quads
from pipeline.fitting.views import View
from pipeline.recipes.head_export import folder_name, rows_with_heads
from pipeline.recipes.head_record import read_head, recorded_points
from pipeline.redact import shown_uri
from pipeline.run.state import read_state
from pipeline.storage.small_files import write_small_files
from pipeline.storage.store import Store
from pipeline.words import quantity

REACH = 8.5
"""Distance in cm from the tip of the nose up to which a face is scored."""

STAGES = ("mean", "points", "proxy", "detailed")

_NOSE = 30
"""Landmark at the tip of the nose."""

_COLUMNS = (
    *("similarity_median", "similarity_mean", "similarity_p90"),
    *("own_median", "own_mean", "own_p90", "scale", "degrees", "degrees_median"),
)


def read_scan(path: Path, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Reads a mesh from an OBJ file.

    Args:
        path: The file; polygons of any number of corners.
        unit: How many centimetres a unit of it is.

    Returns:
        Vertices (V, 3) float64 cm and triangles (T, 3) int64.

    Raises:
        DataError: It cannot be read, or is no mesh.
    """
    vertices, triangles = [], []
    try:
        for line in path.read_text("utf-8", errors="replace").splitlines():
            if line.startswith("v "):
                vertices.append([float(number) for number in line.split()[1:4]])
            elif line.startswith("f "):
                first, *rest = (int(corner.split("/")[0]) for corner in line.split()[1:])
                triangles += [(first, *pair) for pair in pairwise(rest)]
        points, faces = np.array(vertices, float).reshape(-1, 3) * unit, np.array(triangles, int) - 1
        if not len(faces) or faces.min() < 0 or faces.max() >= len(points):
            raise ValueError("it has no faces, or they do not fit its vertices")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no OBJ file that can be read: {error}.") from error
    return points, faces


class _Scan:
    """A scan about its nose, and where the head model's nose has to go.

    The scan looks along z with y up; the tip of its nose is the foremost point.
    """

    def __init__(self, path: Path, unit: float, nose_head: np.ndarray):
        points, triangles = read_scan(path, unit)
        nose = points[points[:, 2].argmax()]
        near = np.linalg.norm(points - nose, axis=1) < 1.7 * REACH
        triangles = triangles[near[triangles].all(1)]
        if len(triangles) < 100:
            raise DataError(f"{path} has no face about its foremost point: is --unit right?")
        self.surface = shapes.scan_of(points, triangles)
        self.start = shapes.Alignment(1.0, np.eye(3), nose - nose_head)


def score_heads(
    rows: Iterable[dict[str, Any]], config: DetailsConfig, scan: Path, unit: float
) -> Iterator[dict[str, Any]]:
    """Scores every head of some records whose scan is there.

    Args:
        rows: As from `rows_with_heads`.
        config: How the heads were reconstructed.
        scan: An OBJ file that all heads are compared with; or a folder with one for each, named after the
            photo or the person.
        unit: How many centimetres a unit of it is.

    Yields:
        Of a head: `name`, and for each stage what `shapes.score` returns. Of one without a scan: its `name`.

    Raises:
        DataError: A scan cannot be read.
    """
    kit = head_kit(level=config.level)
    nose = kit.head.neutral[kit.head.landmarks[_NOSE]]
    scans: dict[Path, _Scan] = {}
    for row in rows:
        for face in filter(lambda face: face["head"], row["faces"]):
            name = folder_name(row["uri"], row["id"], face["index"], row.get("person"))
            path = _scan_of(row, scan)
            if path is None:
                yield {"name": name}
                continue
            if path not in scans:
                scans[path] = _Scan(path, unit, nose)
            head = read_head(face["head"], row["width"], row["height"], kit)
            meshes = _stages(row, face, head, config)
            yield {
                "name": name,
                **{stage: _score(*meshes[stage], kit=kit, scan=scans[path]) for stage in meshes},
            }


def _scan_of(row: dict[str, Any], scan: Path) -> Path | None:
    if not scan.is_dir():
        return scan
    stems = (PurePosixPath(shown_uri(uri)).stem for uri in (row["uri"], row.get("person") or "") if uri)
    return next((path for stem in stems if (path := scan / f"{stem}.obj").exists()), None)


def _stages(
    row: dict[str, Any], face: dict[str, Any], head: Head, config: DetailsConfig
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Vertices in head space, their first ones the face's, and their normals, of each stage."""
    kit, fitted = head.kit, head.kit.head
    view = View(
        row["width"],
        row["height"],
        points=recorded_points(face, fitted),
        focal=head.view.focal,
        actions=config.hints,
    )
    meshes = {"mean": fitted.neutral, "proxy": fitted.vertices(head.identity, head.view.expression)}
    try:
        state = fit_views([view], fitted, config.fit.model_copy(update={"normal_steps": 0}))
        meshes["points"] = fitted.vertices(state.identity, state.views[0].expression)
    except FitError:
        pass
    found = {name: (points, normals_of_quads(points, fitted.quads)) for name, points in meshes.items()}
    quads = kit.grid.quads
    detailed = head.detailed_vertices[: quads.max() + 1]
    return found | {"detailed": (detailed, normals_of_quads(detailed, quads))}


def _score(points: np.ndarray, normals: np.ndarray, *, kit: HeadKit, scan: _Scan) -> dict[str, float]:
    dense = kit.head.dense
    nose = kit.head.neutral[kit.head.landmarks[_NOSE]]
    used = dense[np.linalg.norm(kit.head.neutral[dense] - nose, axis=1) < REACH]
    start = replace(scan.start, translation=scan.start.translation + nose - points[kit.head.landmarks[_NOSE]])
    return shapes.score(points[used].astype(float), normals[used], scan.surface, start)


def evaluate_heads(run: Store, scan: Path, unit: float, out: Path | None = None) -> tuple[str, int]:
    """Scores the heads of a run; see `score_heads`.

    Args:
        run: Its folder.
        scan: As for `score_heads`.
        unit: As for `score_heads`.
        out: Folder for `heads.jsonl`, a line per head, and `heads.md`, the table.

    Returns:
        The table of means over heads as Markdown, and how many heads had no scan.

    Raises:
        DataError: There is no head with a scan, or a scan cannot be read.
        OutputError: The folder cannot be written.
    """
    state = read_state(run)
    config = DetailsConfig.model_validate(state["config"]["details"] if state else {})
    found = list(score_heads(rows_with_heads(run), config, scan, unit))
    scored = [head for head in found if "mean" in head]
    if not scored:
        raise DataError(f"No head of {run.url} has a scan in {scan}.")
    lines = [
        f"{quantity(len(scored), 'head')}; mm after alignment with scale (similarity) and without (own)",
        "",
        "| stage | " + " | ".join(column.replace("_", " ") for column in _COLUMNS) + " |",
        "|---" * (len(_COLUMNS) + 1) + "|",
    ]
    for stage in STAGES:
        rows = [[head[stage][column] for column in _COLUMNS] for head in scored if stage in head]
        if rows:
            lines.append(f"| {stage} | " + " | ".join(f"{mean:.2f}" for mean in np.mean(rows, 0)) + " |")
    text = "\n".join(lines)
    if out is not None:
        write_small_files(out, {"heads.jsonl": "\n".join(map(json.dumps, found)), "heads.md": text})
    return text, len(found) - len(scored)
