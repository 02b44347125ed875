"""One evaluation: weights and labelled data in, a folder of results out.

OUT/evaluation.json    the summary: overall, by yaw, skin tone and light; face mask and landmark hull;
                       light and mirror invariance where they were asked for
    evaluation.md      the same as a table
    images.jsonl       a line per image
    sheet.png          best, median and worst: photo, truth, prediction, error
    shown.png          the same of chosen images, if any were
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.device import choose_device
from pipeline.errors import DataError
from pipeline.evaluate.cases import read_cases
from pipeline.evaluate.invariance import LIGHT_SEED, describe_findings, light_invariance, mirror_invariance
from pipeline.evaluate.score import AREAS, ImageScore, score_samples, summarise_scores, table, to_json
from pipeline.evaluate.sheets import sheet_row
from pipeline.images.png import encode_png
from pipeline.normals.checkpoints import load_network
from pipeline.pixels import tile
from pipeline.samples.rows import BadRows
from pipeline.samples.schema import SIZE
from pipeline.storage.small_files import write_small_files


def evaluate(
    weights: str,
    paths: Sequence[str],
    out: Path | None = None,
    device: str = "auto",
    size: int = SIZE,
    *,
    mirror: bool = False,
    light_heads: int = 0,
    show: Sequence[str] = (),
) -> tuple[dict[str, Any], list[ImageScore]]:
    """Scores weights on labelled data.

    Args:
        weights: Name or path of weights, or a training checkpoint.
        paths: Labelled Parquet data or folders of pictures; see `pipeline.evaluate.cases`.
        out: Folder for the results, or None to write nothing.
        device: "auto", "cpu", "cuda" ...
        size: Side of the crops in pixels: the one that the weights were trained at.
        mirror: Also compare the answers for mirrored crops; see `pipeline.evaluate.invariance`.
        light_heads: Also render so many heads, each under several lights, and compare the answers.
        show: Ids of images to draw into `shown.png`, in this order.

    Returns:
        The summary of `pipeline.evaluate.score.summarise_scores` and the scores of all images.

    Raises:
        DataError: A path holds no labelled crop, or an id to show is not among them.
        AssetsError: The heads cannot be rendered: the head model is not there.
        OutputError: The folder cannot be written.
    """
    target = choose_device(device)
    network = load_network(weights).to(target)
    bad = BadRows()
    scores = list(score_samples(network, read_cases(paths, bad, size), target))
    shown = _find(scores, show)
    summary = {
        "weights": weights,
        "data": list(paths),
        "bad_rows": len(bad.reasons),
        **summarise_scores(scores),
    }
    if mirror:
        summary["mirror"] = mirror_invariance(network, [score.sample for score in scores], target)
    if light_heads:
        # Imported here: scores on stored data need no renderer.
        from pipeline.synth.sample import SampleConfig, Sampler

        sampler = Sampler(SampleConfig(size=size), LIGHT_SEED, str(target))
        summary["light"] = light_invariance(network, sampler, light_heads, device=target)
    if out is not None:
        pictures = {"shown.png": encode_png(draw_shown(shown))} if shown else {}
        write_small_files(out, _files(summary, scores) | pictures)
    return summary, scores


def _files(summary: dict[str, Any], scores: Sequence[ImageScore]) -> dict[str, str | bytes]:
    rows = [
        {"id": score.sample.id, "face": score.face, "hull": score.hull, "meta": dict(score.sample.meta)}
        for score in scores
    ]
    return {
        "evaluation.json": to_json(summary),
        "evaluation.md": report(summary),
        "images.jsonl": "\n".join(map(json.dumps, rows)),
        "sheet.png": encode_png(draw_ranked(scores)),
    }


def report(summary: dict[str, Any]) -> str:
    """Returns the one number of a summary, its table, and what is said of light and mirror."""
    area = "hull" if summary["hull"] else "face"
    found = (summary[area] or {}).get("all")
    first = f"{found['mean']:.2f} degrees on average ({AREAS[area]})" if found else ""
    return "\n\n".join(part for part in (first, table(summary), describe_findings(summary)) if part)


def draw_ranked(scores: Sequence[ImageScore], each: int = 4) -> np.ndarray:
    """Draws the best, the middle and the worst images by mean error on the face mask: (H, W, 3) uint8."""
    ranked = sorted(scores, key=lambda score: score.face["mean"])
    middle = max(0, (len(ranked) - each) // 2)
    chosen = {
        "best": ranked[:each],
        "median": ranked[middle : middle + each],
        "worst": ranked[-each:],
    }
    rows = [
        sheet_row(score, f"{name} {score.face['mean']:.1f}")
        for name, members in chosen.items()
        for score in members
    ]
    return tile(rows, 2)


def draw_shown(scores: Sequence[ImageScore], side: int = 128) -> np.ndarray:
    """Draws images one below the other, small enough for a document: (N side, 4 side, 3) uint8."""
    rows = [sheet_row(score, f"{(score.hull or score.face)['mean']:.1f}") for score in scores]
    picture = tile(rows, 1)
    return cv2.resize(picture, (4 * side, len(rows) * side), interpolation=cv2.INTER_AREA)


def _find(scores: Sequence[ImageScore], ids: Sequence[str]) -> list[ImageScore]:
    by_id = {score.sample.id: score for score in scores}
    if missing := [name for name in ids if name not in by_id]:
        raise DataError(f"There is no image {missing[0]!r} to show; images.jsonl lists the ids.")
    return [by_id[name] for name in ids]
