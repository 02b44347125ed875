"""Stage: a head for every face of a photo. Runs in a process of its own, which holds the head model."""

from typing import Any

import torch

from pipeline.details.config import DetailsConfig
from pipeline.details.kit import make_kit
from pipeline.details.pictures import decode_jpeg
from pipeline.details.reconstruct import (
    TEXTURE_CROP,
    FacePhoto,
    focal_pixels,
    normals_of,
    reconstruct,
)
from pipeline.errors import ImageError
from pipeline.faces.crop import CropWindow
from pipeline.fitting.fit import FitError
from pipeline.fitting.views import View
from pipeline.geometry.head_model import FaceModel
from pipeline.geometry.mesh import Topology
from pipeline.normals.encoding import Convention, decode_normals
from pipeline.recipes.head_record import FIT_FAILED, describe_head, recorded_points
from pipeline.run.items import Item


class HeadStage:
    """Fits a head to every face of an item, each face by itself.

    Takes what `CropStage` and `NormalsStage` hand on, the crop for the texture and the confidence included.

    Args:
        model: The head model, loaded once by the driver.
        topology: Of the same.
        config: How heads are reconstructed.
        convention: Axes of the encoded normals.
    """

    def __init__(self, model: FaceModel, topology: Topology, config: DetailsConfig, convention: Convention):
        torch.set_num_threads(1)
        self.kit = make_kit(model, topology, config.level)
        self.config, self._convention = config, convention

    def __call__(self, item: Item) -> None:
        """Works on one photo.

        Raises:
            ImageError: No head fits any of its faces (fit_failed).
        """
        reasons = []
        for face, found in zip(item.record["faces"], item.handed_on, strict=True):
            face["head"], face["head_error"] = None, None
            photo = self.photo_of(item.record, face, found)
            try:
                (head,) = reconstruct([photo], self.kit, self.config)
                face["head"] = describe_head(head)
            except FitError as error:
                face["head_error"] = str(error)
                reasons.append(f"face {face['index']}: {error}")
            del found[TEXTURE_CROP.name], found["confidence"]
        if len(reasons) == len(item.record["faces"]):
            raise ImageError(f"No head fits: {'; '.join(reasons)}.", FIT_FAILED)

    def photo_of(self, record: dict[str, Any], face: dict[str, Any], found: dict[str, Any]) -> FacePhoto:
        """Returns what the fit needs of a face, from its record and what was handed on with it."""
        texture_window, texture = found[TEXTURE_CROP.name]
        width, height = record["width"], record["height"]
        view = View(
            width,
            height,
            points=recorded_points(face, self.kit.head),
            normals=normals_of(
                decode_normals(found["normals"], self._convention),
                CropWindow(**face["crop_window"]),
                found["mask"],
                found["confidence"],
            ),
            focal=focal_pixels(record["focal_35mm"], width, height),
            actions=self.config.hints,
        )
        return FacePhoto.of(view, decode_jpeg(texture), texture_window)
