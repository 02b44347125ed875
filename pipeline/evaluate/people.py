"""Heads of rendered people by one and more photos, stage by stage of the fit.

    facet synth out/people --multiview --config configs/people.yaml
    facet evaluate compact out/people --people

    mm          median distance from the true skin, along its normals, after alignment with scale
    degrees     mean angle to the normals of the true skin, where it is seen, as the photo shows it
    rotation    error of the rotation between two photos, degrees
    better      share of people with less mm than by the mean face

All are means over people and of the same two photos of each, whatever number of photos their head is fitted
to: the first ones that can be used at all. "answer" is what the fit returns: the last stage, or that before.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.details.config import DetailsConfig
from pipeline.details.kit import HeadKit, head_kit
from pipeline.details.person import PersonConfig, compared, fit_alone
from pipeline.details.reconstruct import FacePhoto, look_at
from pipeline.errors import DataError
from pipeline.evaluate.metrics import rotation_angle
from pipeline.evaluate.shapes import best_alignment
from pipeline.faces.detect import DetectConfig, FaceFinder
from pipeline.fitting.fit import Fit, State, fit_views
from pipeline.fitting.head import FitHead
from pipeline.fitting.observe import normals_of_quads
from pipeline.fitting.views import View
from pipeline.normals.inference import NormalsEstimator
from pipeline.points.labels import decode_bgr
from pipeline.samples.rows import find_row_groups
from pipeline.storage.small_files import write_small_files

COUNTS = (1, 2, 3, 5)
"""Numbers of photos that heads are fitted to."""

_SCORED = 2
_SEEN = 0.15
_TRUTH = ("set", "view", "image", "vertices", "rotation", "translation", "focal", "centre")


def read_people(paths: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """Yields the photos of one person after the other, rows of `pipeline.synth.view_sets`.

    Raises:
        DataError: A path holds no Parquet file, or one without such rows.
    """
    files = {group.path: group for group in find_row_groups(paths)}
    for path, group in files.items():
        try:
            with group.store.open(group.name) as file:
                rows = pq.read_table(file, columns=list(_TRUTH)).to_pylist()
        except (OSError, pa.ArrowException, KeyError) as error:
            raise DataError(f"{path} holds no people of `facet synth --multiview`: {error}.") from error
        rows.sort(key=lambda row: (row["set"], row["view"]))
        for _, photos in groupby(rows, key=lambda row: row["set"]):
            yield list(photos)


def score_person(
    rows: list[dict[str, Any]],
    kit: HeadKit,
    config: DetailsConfig,
    *,
    finder: FaceFinder,
    normals: NormalsEstimator,
    counts: Sequence[int] = COUNTS,
) -> list[dict[str, Any]]:
    """Scores the heads that are fitted to some of a person's photos.

    Returns:
        For each number of photos and each stage the figures; empty if less than two photos can be used.
    """
    looked = [_look(row, kit, config, finder, normals) for row in rows]
    alone, _ = fit_alone(
        [[photo] if photo else [] for photo in looked], kit, config, PersonConfig().most_angle
    )
    usable = sorted(alone)
    if len(usable) < _SCORED:
        return []
    scored = usable[:_SCORED]
    found = []
    for count in counts:
        if count == 1:
            fits = [(alone[k][0], [k]) for k in scored]
        else:
            used = usable[: max(count, _SCORED)]
            views = [photo.view for k in used if (photo := looked[k])]
            fits = [(fit_views(views, kit.head, config.fit), used)]
        for stage in _stages(fits[0][0]):
            errors = [
                _error(rows[k], _stages(fit)[stage], used.index(k), kit.head)
                for fit, used in fits
                for k in used
                if k in scored
            ]
            figures = dict(zip(("mm", "degrees"), np.mean(errors, 0).tolist(), strict=True))
            turns = [_turned([rows[k] for k in scored], _stages(fit)[stage]) for fit, _ in fits]
            found.append(
                {"set": rows[0]["set"], "photos": count, "stage": stage, **figures, "rotation": turns[0]}
            )
    return found


def _stages(fit: Fit) -> dict[str, State]:
    return fit.stages | {"answer": State(fit.identity, fit.views)}


def _look(
    row: dict[str, Any], kit: HeadKit, config: DetailsConfig, finder: FaceFinder, normals: NormalsEstimator
) -> FacePhoto | None:
    image = np.ascontiguousarray(decode_bgr(row["image"], cv2.IMREAD_COLOR)[..., ::-1])
    faces = finder(image)
    if not faces:
        return None
    photo = look_at(image, faces[0], kit, config, normals=normals)
    return replace(photo, view=_of_whole_photo(compared(photo), np.asarray(row["centre"])))


def _of_whole_photo(view: View, centre: np.ndarray) -> View:
    """Puts a crop into a photo about its principal point (2,), as the fit expects of photos."""
    assert view.normals is not None
    assert view.picture is not None
    reach = np.maximum(centre, [view.width - 1, view.height - 1] - centre)
    x, y = shift = reach - centre
    width, height = (2 * reach + 1).tolist()
    normals = replace(view.normals, left=view.normals.left + x, top=view.normals.top + y)
    picture = replace(view.picture, left=view.picture.left + x, top=view.picture.top + y)
    points = replace(view.points, photo=view.points.photo + shift)
    return replace(view, width=width, height=height, points=points, normals=normals, picture=picture)


def _error(row: dict[str, Any], state: State, k: int, head: FitHead) -> tuple[float, float]:
    """Median mm and mean degrees of a stage on one photo."""
    view, skin = state.views[k], np.nonzero(head.skin)[0]
    true = np.frombuffer(row["vertices"], "<f4").reshape(-1, 3)[: len(head.neutral)].astype(float)
    vertices = head.vertices(state.identity, view.expression)
    normals = normals_of_quads(true, head.quads)[skin]
    aligned = best_alignment(vertices[skin].astype(float), true[skin])
    off = ((aligned(vertices[skin]) - true[skin]) * normals).sum(1)
    rotation = np.reshape(row["rotation"], (3, 3))
    sight = -(true[skin] @ rotation.T + row["translation"])
    cosine = (normals @ rotation.T * sight).sum(1) / np.linalg.norm(sight, axis=1)
    found = normals_of_quads(vertices, head.quads)[skin] @ view.rotation.T
    angle = np.degrees(np.arccos(np.clip((found * (normals @ rotation.T)).sum(1), -1, 1)))
    return float(np.median(np.abs(off))) * 10, float(angle[cosine > _SEEN].mean())


def _turned(rows: list[dict[str, Any]], state: State) -> float:
    """Degrees by which the rotation between the first photos is off; NaN for one alone."""
    if len(state.views) < _SCORED:
        return float("nan")
    first, second = (np.reshape(row["rotation"], (3, 3)) for row in rows)
    return float(rotation_angle(state.views[1].rotation @ state.views[0].rotation.T @ (second @ first.T).T))


def as_markdown(scores: list[dict[str, Any]]) -> str:
    """The table for people."""
    mean_face = {(s["set"], s["photos"]): s["mm"] for s in scores if s["stage"] == "mean"}
    lines = ["| photos | stage | mm | degrees | rotation | better |", "|---" * 6 + "|"]
    for count, stage in dict.fromkeys((s["photos"], s["stage"]) for s in scores):
        group = [s for s in scores if (s["photos"], s["stage"]) == (count, stage)]
        mm, degrees, rotation = np.mean(
            [[s[name] for name in ("mm", "degrees", "rotation")] for s in group], 0
        )
        better = np.mean([s["mm"] < mean_face[s["set"], count] for s in group])
        turned = "" if np.isnan(rotation) else f"{rotation:.2f}"
        lines.append(f"| {count} | {stage} | {mm:.2f} | {degrees:.2f} | {turned} | {better:.0%} |")
    return "\n".join(lines)


def evaluate_people(weights: str, paths: Sequence[str], out: Path | None = None) -> str:
    """Scores heads by stage and number of photos; stores the results in `out`, if given.

    Returns:
        The table as Markdown.

    Raises:
        DataError: A path holds no people, or nobody's photos can be used.
        WeightsError: The weights cannot be loaded.
        AssetsError: The head model is not there.
        OutputError: The folder cannot be written.
    """
    config = DetailsConfig()
    kit, normals = head_kit(level=config.level), NormalsEstimator(weights)
    finder = FaceFinder(DetectConfig(mode="auto", faces="largest"))
    scores, people, unusable = [], 0, 0
    for rows in read_people(paths):
        found = score_person(rows, kit, config, finder=finder, normals=normals)
        scores += found
        people += 1
        unusable += not found
    if not scores:
        raise DataError("Nobody in the data has two photos that can be used.")
    text = (
        f"Of {people} people {unusable} have less than two photos that can be used.\n\n{as_markdown(scores)}"
    )
    if out is not None:
        write_small_files(out, {"people.jsonl": "\n".join(map(json.dumps, scores)), "people.md": text})
    return text
