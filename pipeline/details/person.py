"""One head for the photos of one person: which face on each photo is theirs, and which photos agree."""

from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from pipeline.config import Section
from pipeline.details.config import DetailsConfig
from pipeline.details.head import Head
from pipeline.details.kit import HeadKit
from pipeline.details.reconstruct import FacePhoto, check_quality, finish_heads
from pipeline.fitting.fit import Fit, FitError, fit_views
from pipeline.fitting.views import Picture, View
from pipeline.pixels import resize

_LIKER, _LIKEST = 0.07, 4
"""By how much a person's photo is more like two others together than like one, and so on, up to so many."""

_COMPARED_SIDE = 448
"""Longest side of the pictures that are compared: pixels of 1 mm and less."""


class PersonConfig(Section):
    """Which photos of a person are used.

    Attributes:
        most_photos: Photos that a head is fitted to; of more those are taken whose views differ most.
        most_angle: Degrees on average between a photo's normals and the head fitted to it alone, beyond which
            the photo is left out.
        least_like: Likeness of its head by itself to another one's (see `likeness`) below which a photo is
            taken for somebody else's; to those of several it is higher (see `find_strangers`).
    """

    most_photos: int = Field(default=12, ge=1, le=64)
    most_angle: float = Field(default=16.0, gt=0)
    least_like: float = Field(default=0.2, ge=-1, le=1)


@dataclass(frozen=True, eq=False)
class Person:
    """What was made of the photos of a person.

    Attributes:
        faces: Photo number -> which of its faces is the person's.
        heads: Photo number -> the head in it; all have the same identity.
        rejected: Photo number -> why it was left out.
        likeness: Photo number -> that of its head by itself to those of the other photos that are used.
        costs: Stage of the fit -> its cost before and after.
        refused: Why its last stage was not taken; None: it was, or there was none.
    """

    faces: dict[int, int]
    heads: dict[int, Head]
    rejected: dict[int, str]
    likeness: dict[int, float]
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
    shapes = {k: {c: fit.identity for c, fit in fits.items()} for k, fits in alone.items()}
    faces = choose_faces(shapes)
    chosen = {k: shapes[k][c] for k, c in faces.items()}
    doubts = {k: alone[k][c].quality[0].normals for k, c in faces.items()}
    strangers = find_strangers(chosen, doubts, least=person.least_like)
    rejected |= {k: f"it shows another head: likeness {value:.2f}" for k, value in strangers.items()}
    used = sorted(faces.keys() - strangers.keys())
    alike = strangers | likenesses({k: chosen[k] for k in used})
    if len(used) == 1:
        fit = alone[used[0]][faces[used[0]]]
    else:
        fit = fit_views([compared(photos[k][faces[k]]) for k in used], kit.head, config.fit)
    heads = dict(zip(used, finish_heads([photos[k][faces[k]] for k in used], fit, kit, config), strict=True))
    return Person({k: faces[k] for k in used}, heads, rejected, alike, ends_of(fit), fit.refused)


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


def likeness(identity: np.ndarray, others: np.ndarray) -> float:
    """How much a head is like others: the cosine of their coefficients (100,), which are N(0, 1).

    It is 1 for the same shape. What single photos tell of a shape is inexact: it is .5 on average for renders
    of one person and .3 of different people, below .2 for one pair of a hundred and for one of six.
    """
    lengths = float(np.linalg.norm(identity) * np.linalg.norm(others))
    return float(identity @ others) / max(lengths, 1e-9)


def likenesses(identities: dict[int, np.ndarray]) -> dict[int, float]:
    """Returns how much each of some heads is like the others; nothing of one alone."""
    total = sum(identities.values(), np.zeros(()))
    return {k: likeness(own, total - own) for k, own in identities.items() if len(identities) > 1}


def choose_faces(identities: dict[int, dict[int, np.ndarray]]) -> dict[int, int]:
    """Chooses on every photo the face whose shape is most like the others'.

    Args:
        identities: Photo number -> face number -> coefficients (100,); face 0 is the largest.

    Returns:
        Photo number -> face number.
    """
    sure = [next(iter(faces.values())) for faces in identities.values() if len(faces) == 1]
    known = np.sum(sure or [next(iter(faces.values())) for faces in identities.values()], axis=0)
    return {k: max(faces, key=lambda c: likeness(faces[c], known)) for k, faces in identities.items()}


def find_strangers(
    identities: dict[int, np.ndarray], doubts: dict[int, float], *, least: float
) -> dict[int, float]:
    """Finds heads that are not the others'. Of two it takes the more doubtful one for the stranger.

    Of renders of 44 people in 2, 3 and 5 photos .3, .2 and 2 % of the photos are lost by it; a stranger among
    them is found in 15, 18 and 43 %. With a bound that does not rise it would be 15, 8 and 4 %.

    Args:
        identities: Photo number -> coefficients (100,).
        doubts: Photo number -> how badly its head fits, in whatever unit.
        least: Likeness to one other that is still the same head's.

    Returns:
        Photo number -> its likeness to the others.
    """
    left, strangers = dict(identities), {}
    while len(left) > 1:
        alike = likenesses(left)
        last_two = len(left) == 2
        worst = max(left, key=lambda k: (doubts[k] if last_two else -alike[k], k))
        if alike[worst] >= least + _LIKER * (min(len(left) - 1, _LIKEST) - 1):
            break
        strangers[worst] = alike[worst]
        del left[worst]
    return strangers


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
