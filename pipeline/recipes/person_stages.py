"""Stages of `facet multiview`: the photos of a person to crops, and the crops to one head."""

from typing import Any

import numpy as np

from pipeline.details.person import PersonConfig, most_different, reconstruct_person
from pipeline.errors import ImageError, ReadError
from pipeline.fitting.fit import FitError
from pipeline.recipes.crop_stage import NO_FACE, CropStage
from pipeline.recipes.head_record import FIT_FAILED, describe_head
from pipeline.recipes.head_stage import HeadStage
from pipeline.run.items import LEFT_OUT, Item, Photo

MOST_FACES = 6
"""Faces of a photo, the largest ones, among which a person's is looked for."""

REJECTED = "rejected"


class PersonCropStage:
    """Takes items of several photos from bytes to crops; a photo that cannot be used is left out alone.

    Args:
        most_photos: See `PersonConfig`.
        *arguments: Those of `CropStage`.
    """

    def __init__(self, most_photos: int, *arguments: Any):
        self._most = most_photos
        self._crop = CropStage(*arguments)

    def __call__(self, item: Item) -> None:
        """Works on the photos of a person.

        Raises:
            ImageError: None of them can be decoded.
        """
        seen: dict[bytes, str] = {}
        looked = [self._look(photo, seen) for photo in item.photos]
        item.record["photos"] = [photo for photo, _, _ in looked]
        used = [k for k, (_, faces, _) in enumerate(looked) if faces]
        if not used:
            said = [photo["status"] for photo, _, _ in looked]
            if NO_FACE in said:
                item.end_empty(NO_FACE, "No face was found on any photo.")
                return
            first = looked[0][0]
            raise ImageError(f"No photo can be used. The first: {first['reason']}", first["status"])
        chosen = most_different(np.array([_direction(looked[k][1][0]) for k in used]), self._most)
        for place in set(range(len(used))) - set(chosen):
            photo = item.record["photos"][used[place]]
            photo.update(status=LEFT_OUT, reason=f"{self._most} photos are taken, those that differ most")
        item.record["faces"], item.handed_on = [], []
        for k in (used[place] for place in chosen):
            _, faces, handed_on = looked[k]
            item.record["faces"] += [face | {"photo": k} for face in faces[:MOST_FACES]]
            item.handed_on += handed_on[:MOST_FACES]

    def _look(
        self, photo: Photo, seen: dict[bytes, str]
    ) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
        name = photo.file.uri.rpartition("/")[2]
        said = {"id": photo.file.id, "uri": photo.file.uri, "status": "ok", "reason": None}
        try:
            if photo.data is None:
                raise photo.error or ReadError("It could not be read.", "read_failed")
            if photo.data in seen:
                said.update(status=LEFT_OUT, reason=f"the same file as {seen[photo.data]}")
                return said, [], []
            seen[photo.data] = name
            facts, faces, handed_on = self._crop.look(photo)
        except ImageError as error:
            return said | {"status": error.code, "reason": str(error)}, [], []
        if not faces:
            said.update(status=NO_FACE, reason="No face was found.")
        return said | facts, faces, handed_on


def _direction(face: dict[str, Any]) -> np.ndarray:
    """From where a face is seen, in head space; from the front where its rotation is not known."""
    if face["rotation"] is None:
        return np.array([0.0, 0.0, 1.0])
    return np.asarray(face["rotation"], float).reshape(3, 3)[2]


class PersonStage(HeadStage):
    """Fits one head to the photos of a person.

    Args:
        person: Which photos are used.
        *arguments: Those of `HeadStage`.
    """

    def __init__(self, person: PersonConfig, *arguments: Any):
        super().__init__(*arguments)
        self._person = person

    def __call__(self, item: Item) -> None:
        """Works on the photos of a person.

        Raises:
            ImageError: No head fits any of them (fit_failed).
        """
        photos, faces = item.record["photos"], item.record["faces"]
        numbers = sorted({face["photo"] for face in faces})
        places = [[i for i, face in enumerate(faces) if face["photo"] == k] for k in numbers]
        views = [
            [self.photo_of(photos[k], faces[i], item.handed_on[i]) for i in of_photo]
            for k, of_photo in zip(numbers, places, strict=True)
        ]
        try:
            found = reconstruct_person(views, self.kit, self.config, self._person)
        except FitError as error:
            raise ImageError(f"No head fits: {error}.", FIT_FAILED) from None
        for k, reason in found.rejected.items():
            photos[numbers[k]].update(status=REJECTED, reason=reason)
        for k, value in found.likeness.items():
            photos[numbers[k]]["likeness"] = value
        kept = [places[k][face] for k, face in found.faces.items()]
        item.record["faces"] = [
            faces[i] | {"head": describe_head(head), "head_error": None}
            for i, head in zip(kept, found.heads.values(), strict=True)
        ]
        item.record["costs"] = [
            {"stage": stage, "before": before, "after": after, "refused": None}
            for stage, (before, after) in found.costs.items()
        ]
        item.record["costs"][-1]["refused"] = found.refused
        item.handed_on = [{name: item.handed_on[i][name] for name in ("normals", "mask")} for i in kept]
