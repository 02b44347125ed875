"""Parts of the ICT head, told from its geometry: open skin, hollows, regions of triangles, dense points."""

from functools import lru_cache

import torch
from torch import Tensor

from pipeline.geometry.head_model import FACE_VERTICES, NARROW_FACE_VERTICES, SCLERA, FaceModel
from pipeline.regions import Region

DENSE_POINTS = 500
"""Number of dense surface points of the face."""

_INTERIOR = ("M_GumsTongue", "M_Teeth")


@lru_cache(maxsize=4)
def triangle_regions(model: FaceModel) -> Tensor:
    """Region of every triangle (T,) uint8 before hair and accessories.

    The narrow face is skin; ears, scalp, neck and shoulders are neck. The walls of the nostrils and of the
    pouch behind the lids, which no photo shows, are ignored; the inner side of the lips is mouth.
    """
    neutral = model.neutral
    region = torch.full((len(neutral),), int(Region.NECK), dtype=torch.uint8, device=neutral.device)
    region[:NARROW_FACE_VERTICES] = int(Region.SKIN)
    _, nostril, lips, lids = hollows(model)
    region[nostril | lids] = int(Region.IGNORE)
    region[lips] = int(Region.MOUTH)
    # A triangle takes the region of its last corner in this order, so borders fall to the hollows.
    order = torch.tensor([Region.NECK, Region.SKIN, Region.MOUTH, Region.IGNORE], device=neutral.device)
    rank = torch.stack([region == value for value in order]).byte().argmax(0)
    result = order[rank[model.triangles].amax(1)].to(torch.uint8)
    names = model.material_names
    for name in _INTERIOR:
        result[model.material == names.index(name)] = int(Region.MOUTH)
    for name in SCLERA:
        result[model.material == names.index(name)] = int(Region.EYE)
    return result


@lru_cache(maxsize=4)
def dense_vertices(model: FaceModel) -> Tensor:
    """Vertex ids (DENSE_POINTS,) spread evenly over the visible skin of the narrow face.

    Farthest-point sampling on the neutral head, started at the tip of the nose (landmark 30).
    """
    skin, *_ = hollows(model)
    ids = skin.nonzero().squeeze(1)
    points = model.neutral[ids]
    start = model.neutral[model.landmarks[30]]
    chosen = torch.empty(DENSE_POINTS, dtype=torch.int64, device=points.device)
    distance = torch.full((len(ids),), torch.inf, device=points.device)
    newest = (points - start).square().sum(1).argmin()
    for k in range(DENSE_POINTS):
        chosen[k] = ids[newest]
        distance = torch.minimum(distance, (points - points[newest]).square().sum(1))
        newest = distance.argmax()
    return chosen


@lru_cache(maxsize=4)
def hollows(model: FaceModel) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Masks (V,): open skin of the narrow face, and walls of the nostrils, inner lips, pouch of the lids.

    Hollows are found by the baked occlusion near the nose, between the lips and around the eyes of the
    neutral head (boxes in cm).
    """
    x, y, z = model.neutral.abs().unbind(1)
    y = model.neutral[:, 1]
    dark = model.occlusion[0]
    face = torch.arange(len(x), device=x.device) < FACE_VERTICES
    nostril = face & (dark < 0.35) & (x < 2.0) & (y > -1.6) & (y < 1.0) & (z > 9.3)
    lips = face & (dark < 0.08) & (x < 3.5) & (y > -6.0) & (y < -2.0)
    lids = face & (dark < 0.15) & (x < 6.0) & (y > 1.5) & (y < 6.0) & (z > 5.0)
    narrow = torch.arange(len(x), device=x.device) < NARROW_FACE_VERTICES
    return narrow & ~(nostril | lips | lids), nostril, lips, lids
