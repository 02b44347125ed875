"""One head for the photos of one person: which face on each photo is theirs, and which photos agree."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from pipeline.config import Section
from pipeline.details.config import DetailsConfig
from pipeline.details.head import Head
from pipeline.details.kit import HeadKit
from pipeline.details.reconstruct import FacePhoto, check_quality, finish_head
from pipeline.fitting.fit import Fit, FitError, fit_views
from pipeline.fitting.head import FitHead
from pipeline.fitting.views import Picture, View
from pipeline.pixels import resize

_COMPARED_SIDE = 448
"""Longest side of the pictures that are compared: pixels of 1 mm and less."""


class PersonConfig(Section):
    """Which photos of a person are used.

    Attributes:
        most_photos: Photos that a head is fitted to; of more those are taken whose views differ most.
        most_angle: Degrees on average between a photo's normals and the head fitted to it alone, beyond which
            the photo is left out.
        most_different: How far its head by itself may be from the others', root mean square of vertices in
            mm, beyond which a photo is taken for somebody else's. Of 36 pairs of renders of one person
            none was farther apart than 3.8, of 594 pairs of different people one in twenty than 4.5: only
            quite another head is noticed.
    """

    most_photos: int = Field(default=12, ge=1, le=64)
    most_angle: float = Field(default=16.0, gt=0)
    most_different: float = Field(default=4.5, gt=0)


@dataclass(frozen=True, eq=False)
class Person:
    """What was made of the photos of a person.

    Attributes:
        faces: Photo number -> which of its faces is the person's.
        heads: Photo number -> the head in it; all have the same identity.
        rejected: Photo number -> why it was left out.
        costs: Stage of the fit -> its cost before and after.
        refused: Why its last stage was not taken; None: it was, or there was none.
    """

    faces: dict[int, int]
    heads: dict[int, Head]
    rejected: dict[int, str]
    costs: dict[str, tuple[float, float]]
    refused: str | None


def reconstruct_person(
    photos: list[list[FacePhoto]], kit: HeadKit, config: DetailsConfig, person: PersonConfig
) -> Person:
    """Reconstructs a head from photos of one person.

    Args:
        photos: Of each photo its faces, at least one.
        kit: The head model.
        config: How heads are reconstructed.
        person: Which photos are used.

    Raises:
        FitError: No head fits any of them.
    """
    alone, rejected = fit_alone(photos, kit, config, person.most_angle)
    if not alone:
        raise FitError("; ".join(f"photo {k + 1}: {reason}" for k, reason in rejected.items()))
    shapes = {
        k: {c: neutral_shape(fit.identity, kit.head) for c, fit in fits.items()} for k, fits in alone.items()
    }
    faces = choose_faces(shapes)
    doubts = {k: alone[k][c].quality[0].normals for k, c in faces.items()}
    strangers = find_strangers(
        {k: shapes[k][c] for k, c in faces.items()}, doubts, most_mm=person.most_different
    )
    rejected |= {k: f"it shows another head: {off:.1f} mm from the others'" for k, off in strangers.items()}
    used = sorted(faces.keys() - strangers.keys())
    if len(used) == 1:
        fit = alone[used[0]][faces[used[0]]]
    else:
        fit = fit_views([compared(photos[k][faces[k]]) for k in used], kit.head, config.fit)
    heads = {k: finish_head(photos[k][faces[k]], fit, i, kit, config) for i, k in enumerate(used)}
    return Person({k: faces[k] for k in used}, heads, rejected, ends_of(fit), fit.refused)


def compared(photo: FacePhoto) -> View:
    """Returns the view of a photo with its picture, to be compared with others of the person."""
    window = photo.window
    side = min(len(photo.picture), _COMPARED_SIDE)
    picture = Picture(resize(photo.picture, side, side), window.left, window.top, window.size)
    return replace(photo.view, picture=picture)


def ends_of(fit: Fit) -> dict[str, tuple[float, float]]:
    """Returns the cost of every stage of a fit before it and after."""
    return {name: (costs[0], costs[-1]) for name, costs in fit.costs.items()}


def fit_alone(
    photos: list[list[FacePhoto]], kit: HeadKit, config: DetailsConfig, most_angle: float
) -> tuple[dict[int, dict[int, Fit]], dict[int, str]]:
    """Fits a head to every face by itself.

    Returns:
        Photo number -> face number -> its fit, and photo number -> why none of its faces has one.
    """
    fits: dict[int, dict[int, Fit]] = {}
    rejected = {}
    for k, faces in enumerate(photos):
        for c, face in enumerate(faces):
            try:
                fit = fit_views([face.view], kit.head, config.fit)
                (quality,) = fit.quality
                check_quality(quality, config)
                if quality.normals > most_angle:
                    raise FitError(f"points and normals contradict each other: {quality.normals:.0f} degrees")
            except FitError as error:
                rejected[k] = str(error)
            else:
                fits.setdefault(k, {})[c] = fit
    return fits, {k: reason for k, reason in rejected.items() if k not in fits}


def neutral_shape(identity: np.ndarray, head: FitHead) -> np.ndarray:
    """Returns the vertices (F, 3) of a head without expression about their middle, cm."""
    vertices = head.vertices(identity, np.zeros(len(head.expression_names)))
    return vertices - vertices.mean(axis=0)


def choose_faces(shapes: dict[int, dict[int, np.ndarray]]) -> dict[int, int]:
    """Chooses on every photo the face whose shape is nearest to the others'.

    Args:
        shapes: Photo number -> face number -> vertices (F, 3); face 0 is the largest.

    Returns:
        Photo number -> face number.
    """
    sure = [next(iter(faces.values())) for faces in shapes.values() if len(faces) == 1]
    known = np.mean(sure or [next(iter(faces.values())) for faces in shapes.values()], axis=0)
    return {
        k: min(faces, key=lambda c: float(np.linalg.norm(faces[c] - known))) for k, faces in shapes.items()
    }


def find_strangers(
    shapes: dict[int, np.ndarray], doubts: dict[int, float], *, most_mm: float
) -> dict[int, float]:
    """Finds shapes that are not the others'. Of two it takes the more doubtful one for the stranger.

    Args:
        shapes: Photo number -> vertices (F, 3), cm.
        doubts: Photo number -> how badly its shape fits, in whatever unit.
        most_mm: Distance that is still the same head's, root mean square of vertices in mm.

    Returns:
        Photo number -> its distance from the others.
    """
    left, strangers = dict(shapes), {}
    while len(left) > 1:
        off = {k: _distance(left[k], np.mean([left[j] for j in left if j != k], axis=0)) for k in left}
        last_two = len(left) == 2
        worst = max(off, key=lambda k: (doubts[k] if last_two else off[k], k))
        if off[worst] <= most_mm:
            break
        strangers[worst] = off[worst]
        del left[worst]
    return strangers


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Root mean square of the distances of vertices (F, 3) in cm, in mm."""
    return 10 * float(np.sqrt(((first - second) ** 2).sum(axis=1).mean()))


def most_different(directions: np.ndarray, count: int) -> list[int]:
    """Chooses views that differ most, the first of them the most frontal one.

    Args:
        directions: (N, 3) unit vectors from which heads are seen, in head space.
        count: How many to choose.

    Returns:
        Their numbers, in order.
    """
    if len(directions) <= count:
        return list(range(len(directions)))
    chosen = [int(directions[:, 2].argmax())]
    while len(chosen) < count:
        nearest = (directions @ directions[chosen].T).max(axis=1)
        nearest[chosen] = np.inf
        chosen.append(int(nearest.argmin()))
    return sorted(chosen)
