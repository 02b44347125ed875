"""Stage: the normals of all faces of a chunk."""

import numpy as np

from pipeline.faces.crop import CropWindow
from pipeline.images.png import decode_png
from pipeline.normals.config import NormalsConfig
from pipeline.normals.encoding import Convention, encode_normals
from pipeline.normals.inference import NormalsEstimator
from pipeline.normals.upright import in_photo
from pipeline.run.items import Item
from pipeline.weights import WeightsFile


class NormalsStage:
    """Runs the network over the crops of items, upright ones where there are.

    Hands on for each face "normals", (256, 256, 3) uint8 or uint16 encoded, and "mask", (256, 256) uint8, or
    None where the network gives none; with `confidence` also "confidence", (256, 256) float16 or None.

    Args:
        weights: Weights of the network.
        config: How to run it.
        bits: Depth of the encoded normals.
        convention: Their axes.
        confidence: Whether to hand the confidence on.
    """

    def __init__(
        self,
        weights: WeightsFile,
        config: NormalsConfig,
        bits: int,
        convention: Convention,
        confidence: bool = False,
    ):
        self._bits, self._convention, self._with_confidence = bits, convention, confidence
        self._estimate = NormalsEstimator(
            weights,
            config.device,
            config.batch_size,
            config.mirror,
            config.precision,
            runtime=config.runtime,
        )

    def __call__(self, items: list[Item]) -> None:
        faces = [face for item in items for face in item.record["faces"]]
        if not faces:
            return
        found = [face for item in items for face in item.handed_on]
        seen = [
            face.pop("upright", None) or (None, decode_png(record["crop_png"]))
            for face, record in zip(found, faces, strict=True)
        ]
        estimated = self._estimate(np.stack([crop for _, crop in seen]))
        for index, face in enumerate(found):
            window = CropWindow(**faces[index]["crop_window"])
            normals, face["mask"], sure = in_photo(
                estimated, index, seen[index][0], window, face["photo_size"]
            )
            face["normals"] = encode_normals(normals, self._bits, self._convention)
            if self._with_confidence:
                face["confidence"] = None if sure is None else sure.clip(0, 1e4).astype(np.float16)
