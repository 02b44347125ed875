"""How far found points are from true ones, on unseen rendered heads.

    facet evaluate points out/heads --out out/score

Each head is looked for where a detector might have put it (see `pipeline.points.draw.jitter`), refined as in
use, and scored at the visible points: error in pixels of a crop of 128 about the head, mean over points, then
over heads. A share of calibrated sigma is 68 % of the errors per axis within 1 sigma and 95 % within 2.
"""

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.faces.points import DENSE, SIZE, FacePoints, PointsFinder
from pipeline.faces.window import LOOSE, RolledWindow, head_roll
from pipeline.geometry.head_model import load_face_model
from pipeline.pixels import scale_points
from pipeline.points.draw import jitter, to_crop_camera, true_window
from pipeline.points.labels import LabelledHead, decode_bgr, read_heads
from pipeline.storage.small_files import write_small_files

YAWS = (0, 15, 30, 45, 60, 75, 181)
ROLLS = (0, 30, 90, 181)
"""Edges of groups, degrees."""

FEW = 200
"""So many heads are scored for every size and every lean of the first window."""

COLUMNS = ("error", "median", "box_percent", "landmarks", "hidden", "rotation", "within_1", "within_2")


def evaluate_points(
    finder: PointsFinder, heads: Iterable[LabelledHead], seed: int = 0, face: int = 0, turn: float = 0.0
) -> list[dict[str, Any]]:
    """Scores heads.

    Args:
        finder: What is measured.
        heads: Unseen heads.
        seed: Of the windows to begin with.
        face: Reduce photos so that faces are so many pixels long; 0 leaves them.
        turn: Degrees by which the first window is turned against the head.

    Returns:
        One dictionary a head: errors, shares, and what it is grouped by.
    """
    rng = np.random.default_rng(seed)
    scores = []
    for head in heads:
        image = np.ascontiguousarray(decode_bgr(head.image, cv2.IMREAD_COLOR)[..., ::-1])
        points, window = head.points[0].astype(np.float64), true_window(head)
        if face:
            scale = min(1.0, face * LOOSE / window.side)
            side = max(8, round(head.size * scale))
            scale = side / head.size
            image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
            points = scale_points(points, scale)
            x, y = scale_points(np.array([window.x, window.y]), scale)
            window = RolledWindow(float(x), float(y), window.side * scale, window.roll)
        start = jitter(window, rng, any_roll=False)
        start = RolledWindow(start.x, start.y, start.side, start.roll + turn)
        scores.append(_score(finder.refine(image, start), points, head, window))
    return scores


def _score(found: FacePoints, points: np.ndarray, head: LabelledHead, window: RolledWindow) -> dict[str, Any]:
    scale = SIZE / window.side
    difference = np.concatenate([found.points, found.landmarks]) - points
    distance = np.linalg.norm(difference, axis=1) * scale
    visible = head.visible[0]
    dense, landmarks = visible[:DENSE], visible[DENSE:]
    ratio = np.abs(difference) / found.sigma[:, None]
    turned = found.rotation.T @ to_crop_camera(head, true_window(head)) @ head.rotation[0]
    return {
        "error": _mean(distance[:DENSE][dense]),
        "hidden": _mean(distance[:DENSE][~dense]),
        "landmarks": _mean(distance[DENSE:][landmarks]),
        "all_landmarks": _mean(distance[DENSE:]),
        "box_percent": _mean(distance[:DENSE][dense]) * LOOSE / SIZE * 100,
        "within_1": _mean(ratio[:DENSE][dense] < 1),
        "within_2": _mean(ratio[:DENSE][dense] < 2),
        "sigma": _mean(found.sigma[:DENSE][dense]) * scale,
        "seen": _mean((found.visible > 0.5) == visible),
        "rotation": float(np.degrees(np.arccos(np.clip((np.trace(turned) - 1) / 2, -1, 1)))),
        "relative_sigma": found.relative_sigma,
        "change": found.change,
        "yaw": abs(head.meta["yaw"]),
        "roll": abs(head_roll(head.rotation[0])),
        "covered": bool(head.meta["accessory"]),
        "visible_share": _mean(dense),
        "light": head.meta["light"],
    }


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def average_scores(scores: list[dict[str, Any]]) -> dict[str, float]:
    """Means over heads of every number, the median error, and the number of heads."""
    keys = [key for key, value in scores[0].items() if isinstance(value, float)]
    means = {key: float(np.nanmean([score[key] for score in scores])) for key in keys}
    return {"heads": len(scores), **means, "median": float(np.nanmedian([s["error"] for s in scores]))}


def tabulate(
    scores: list[dict[str, Any]], finder: PointsFinder, heads: list[LabelledHead]
) -> dict[str, dict[str, float]]:
    """Means of the scores of heads by yaw, occlusion and light, and scores of some by size and lean."""
    table = {"all": average_scores(scores)}
    for kind, edges in (("yaw", YAWS), ("roll", ROLLS)):
        for low, high in pairwise(edges):
            if group := [s for s in scores if low <= s[kind] < high]:
                table[f"{kind} {low}-{min(high, 180)}"] = average_scores(group)
    for name, wanted in (("free", False), ("glasses or a thing before the face", True)):
        if group := [s for s in scores if s["covered"] == wanted]:
            table[name] = average_scores(group)
    for light in sorted({s["light"] for s in scores}):
        table[f"light {light}"] = average_scores([s for s in scores if s["light"] == light])
    some = heads[:FEW]
    for face in (60, 30, 20):
        table[f"face of {face} pixels"] = average_scores(evaluate_points(finder, some, face=face))
    for turn in (30, 60, 90, 180):
        table[f"first window turned by {turn}"] = average_scores(evaluate_points(finder, some, turn=turn))
    return table


def as_markdown(table: dict[str, dict[str, float]]) -> str:
    """The table for people."""
    lines = ["| group | heads | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name, row in table.items():
        cells = " | ".join(f"{row[column]:.2f}" for column in COLUMNS)
        lines.append(f"| {name} | {row['heads']} | {cells} |")
    return "\n".join(lines)


def evaluate_file(
    weights: str, paths: Sequence[str], out: Path | None = None, model: str | None = None
) -> dict[str, dict[str, float]]:
    """Scores a points network by name or file on labelled heads, and stores the results.

    Returns:
        The table of `tabulate`.

    Raises:
        WeightsError: The weights are not there or no points network.
        DataError: A path holds no labelled head.
        AssetsError: The head model is not there.
        OutputError: The folder cannot be written.
    """
    finder = PointsFinder(weights if not weights.endswith(".onnx") else Path(weights))
    heads = list(read_heads(paths, load_face_model(model)))
    scores = evaluate_points(finder, heads)
    table = tabulate(scores, finder, heads)
    if out is not None:
        files = {
            "points.json": json.dumps(table, indent=1),
            "points.md": as_markdown(table),
            "heads.jsonl": "\n".join(map(json.dumps, scores)),
        }
        write_small_files(out, files)
    return table
