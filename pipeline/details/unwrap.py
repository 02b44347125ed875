"""The photo as a texture: what the camera saw of the surface, and a likely filling for what it did not.

Unseen texels take what other photos of the person show there; then of a symmetric part the mirrored texel,
the exposure of either matched to what is seen; what is left is filled smoothly from around. A visibility map
says which is which.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from pipeline.details.skin import FaceArea, skin_weight
from pipeline.geometry.mesh import Topology, dots, squares
from pipeline.geometry.uv import UvMap, push_pull, read_picture, read_pixels, weighted
from pipeline.geometry.visibility import DepthBuffer
from pipeline.pixels import scale_points

MIRRORED = 128
"""Value of the visibility map where a texel comes from the other side; 255: seen, 0: filled."""

_LEAST_GAIN = 0.005  # share of the texels that another photo has to add

_FACING = (0.15, 0.5)  # cosines between which the weight of a surface grows from 0 to 1
_DEPTH_PIXELS = 512  # side of the depth map
_DEPTH_TOLERANCE_CM = 0.12
_UNKNOWN = 0.02  # share of a neighbourhood seen on both sides at which half their ratio is believed
_TONE = 4.0**-6  # weight of the skin's tone: it is reached 2 to the 6 texels from what is known


@dataclass(frozen=True)
class PhotoView:
    """A photo and its camera.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        focal: Focal length in pixels.
        centre: Principal point (x, y) in pixels whose centres are integers.
        mask: (H, W) uint8, 255 where the photo shows the surface (skin), 0 where something covers it; None:
            nothing does.
    """

    image: np.ndarray
    focal: float
    centre: tuple[float, float]
    mask: np.ndarray | None = None

    def project(self, points_camera: np.ndarray) -> np.ndarray:
        """Points (N, 3) in camera space to (N, 3): x, y and nearness, 1 / depth, 0 behind the camera."""
        depth = -points_camera[:, 2]
        nearness = np.where(depth > 1, 1 / np.maximum(depth, 1), 0)
        x = self.centre[0] + self.focal * points_camera[:, 0] * nearness
        y = self.centre[1] - self.focal * points_camera[:, 1] * nearness
        return np.stack([x, y, nearness], 1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class PosedHead:
    """A head in front of the camera of a photo.

    Attributes:
        photo: The photo.
        vertices: (V, 3) in camera space, cm.
        normals: (V, 3) unit vertex normals.
        occluders: Everything that may hide a part of it, itself included.
    """

    photo: PhotoView
    vertices: np.ndarray
    normals: np.ndarray
    occluders: Topology

    @cached_property
    def projected(self) -> np.ndarray:
        """(V, 3) float32, see `PhotoView.project`."""
        return self.photo.project(self.vertices)

    @cached_property
    def buffer(self) -> DepthBuffer:
        """What lies in front."""
        triangles = self.occluders.triangles
        return DepthBuffer.of(self.projected[:, :2], -self.vertices[:, 2], triangles, _DEPTH_PIXELS)


@dataclass(frozen=True)
class Texture:
    """A picture in texture space.

    Attributes:
        picture: (S, S, 3) uint8 RGB.
        visibility: (S, S) uint8: 255 seen in a photo, `MIRRORED`, 0 filled, and what lies between.
    """

    picture: np.ndarray
    visibility: np.ndarray


@dataclass(frozen=True, eq=False)
class Shown:
    """What a photo shows of a part, in texture space.

    Attributes:
        colours: (S, S, 3) uint8 RGB.
        weight: (S, S) float32 0..1: how surely a texel is the part's, as the photo shows it.
        tone: (3,) RGB of skin, to which the texture fades; None: it does not.
    """

    colours: np.ndarray
    weight: np.ndarray
    tone: np.ndarray | None = None


def show(head: PosedHead, texels: UvMap, area: FaceArea | None = None) -> Shown:
    """Finds out what a photo shows of a part.

    Args:
        head: The head in the photo.
        texels: The part in texture space.
        area: The face. Beyond it the texture fades to the tone of its skin. None: everything is taken.
    """
    colours, seen = observe(head, texels)
    if area is None:
        return Shown(_bytes(colours), seen)
    weight, tone = skin_weight(colours, seen, area)
    return Shown(_bytes(colours), seen * weight, tone)


def unwrap(shown: Shown, others: Sequence[Shown] = ()) -> Texture:
    """Makes the texture of one part of a head, whose left half shows the mirror image of its right half.

    Args:
        shown: What the photo shows of it.
        others: What other photos of the person show of it.
    """
    colours, seen = shown.colours.astype(np.float32), shown.weight
    left = list(others)
    while left:
        gains = [float((other.weight * (1 - seen)).mean()) for other in left]
        best = int(np.argmax(gains))
        if gains[best] < _LEAST_GAIN:
            break
        other = left.pop(best)
        lit = _match_exposure(other.colours, other.weight, colours, seen)
        colours, seen, _ = _mixed(colours, seen, lit, other.weight)
    mirrored = _match_exposure(colours[:, ::-1], seen[:, ::-1], colours, seen)
    mixed, known, added = _mixed(colours, seen, mirrored, seen[:, ::-1])
    if shown.tone is not None:
        mixed, known, _ = _mixed(mixed, known, shown.tone.astype(np.float32), np.full_like(known, _TONE))
    return Texture(_bytes(push_pull(mixed, known)), _bytes(255 * seen + MIRRORED * added))


def _mixed(
    colours: np.ndarray, weight: np.ndarray, other: np.ndarray, other_weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Adds other colours, or one, where there are none: colours (S, S, 3), weights, what was added (S, S)."""
    added = other_weight * (1 - weight)
    known = weight + added
    mixed = weighted(colours, weight)
    if other.ndim == 1:
        mixed += cv2.merge([added * channel for channel in other])
    else:
        mixed += weighted(other, added)
    return weighted(mixed, 1 / np.maximum(known, 1e-6)), known, added


def observe(head: PosedHead, texels: UvMap) -> tuple[np.ndarray, np.ndarray]:
    """What a photo shows of one part of a head.

    Args:
        head: The head.
        texels: The part in texture space.

    Returns:
        Colours (S, S, 3) float32 0..255, and weights (S, S) float32: 1 where the surface is surely seen, less
        at grazing angles and near edges of what is seen, 0 elsewhere.
    """
    view = head.photo
    cosine_vertices = -dots(head.normals, head.vertices) / np.sqrt(squares(head.vertices))
    # Triangles are small: pixels are interpolated linearly, wrong by hundredths of a pixel.
    sampled = texels.sample(np.column_stack([head.projected, cosine_vertices]))
    x, y, nearness, cosine = np.ascontiguousarray(sampled.T)
    height, width = view.image.shape[:2]
    weight = _smoothstep(cosine, *_FACING)
    weight *= (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1) & (nearness > 0)
    at = np.nonzero(weight)[0]
    weight[at] *= head.buffer.shows(sampled.take(at, 0)[:, :2], 1 / nearness[at], _DEPTH_TOLERANCE_CM)
    if view.mask is not None:
        weight *= read_pixels(view.mask, x, y) / 255
    weight = _feathered(texels, weight)
    image, scale = _reduced(view.image, texels, x, y)
    colours = read_pixels(image, scale_points(x, scale[0]), scale_points(y, scale[1]))
    return texels.image(colours), weight


def continued(texture: np.ndarray, topology: Topology, source: str, target: str, texels: UvMap) -> np.ndarray:
    """A smooth picture for a part that no photo shows, from the colours at its seam with another part.

    Args:
        texture: (S, S, 3) uint8, the other part's picture.
        topology: Of both parts.
        source: The other part.
        target: The part.
        texels: The part in texture space.

    Returns:
        (S', S', 3) uint8.
    """
    from_uv, to_uv = (np.unique(topology.only(name).faces_uv) for name in (source, target))
    of_source, of_target = topology.uv_vertex[from_uv], topology.uv_vertex[to_uv]
    _, first, second = np.intersect1d(of_source, of_target, return_indices=True)
    colour = np.zeros((topology.vertex_count, 3), np.float32)
    colour[of_source[first]] = read_picture(texture, topology.uv[from_uv[first]])
    filled = _spread_from(colour, to_uv[second], topology, texels)
    # Where the part's own texture is cut, both sides agree on their mean.
    copies = np.bincount(of_target, minlength=topology.vertex_count)
    read = read_picture(filled, topology.uv[to_uv])
    cut = copies > 1
    cut[of_source[first]] = False
    for k in range(3):
        mean = np.bincount(of_target, read[:, k], topology.vertex_count) / np.maximum(copies, 1)
        colour[cut, k] = mean[cut]
    known = np.isin(of_target, np.nonzero(cut)[0])
    return _bytes(_spread_from(colour, np.union1d(to_uv[second], to_uv[known]), topology, texels))


def _spread_from(colour: np.ndarray, known_uv: np.ndarray, topology: Topology, texels: UvMap) -> np.ndarray:
    """A smooth picture from colours (V, 3) at some texture coordinates: (S, S, 3)."""
    at = topology.uv[known_uv] * texels.size
    columns, rows = at[:, 0].astype(int), (texels.size - at[:, 1]).astype(int)
    picture, weight = (
        np.zeros((texels.size, texels.size, 3), np.float32),
        np.zeros((texels.size,) * 2, np.float32),
    )
    picture[rows, columns], weight[rows, columns] = colour[topology.uv_vertex[known_uv]], 1
    return push_pull(picture, weight)


def _feathered(texels: UvMap, weight: np.ndarray) -> np.ndarray:
    """Draws weights (P,) back from the edges of what is seen and softens the edge: (S, S)."""
    picture = texels.image(weight.astype(np.float32), empty=1)  # between the islands nothing hides anything
    width = max(1, texels.size // 256)
    eroded = cv2.erode(picture, np.ones((2 * width + 1, 2 * width + 1), np.uint8))
    soft = cv2.blur(eroded, (2 * width + 1, 2 * width + 1))
    return texels.image(np.minimum(soft.ravel()[texels.texel], weight).astype(np.float32))


def _reduced(
    image: np.ndarray, texels: UvMap, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, tuple[float, float]]:
    """Reduces a photo that has several pixels for a texel, against aliasing; and its x, y scales."""
    beside = np.nonzero(np.diff(texels.texel) == 1)[0][::64]
    step = np.hypot(x[beside + 1] - x[beside], y[beside + 1] - y[beside])
    ratio = float(np.median(step)) if len(step) else 1.0
    if ratio < 1.5:
        return image, (1.0, 1.0)
    height, width = image.shape[:2]
    size = (max(1, round(width / ratio)), max(1, round(height / ratio)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), (size[0] / width, size[1] / height)


def _match_exposure(
    other: np.ndarray, other_seen: np.ndarray, colours: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    """Another picture of the part, as bright as this one where both show it: (S, S, 3) float32.

    What their ratio is beside its mean is low-passed and ends some way from there: what the light does to a
    side that nobody saw, nobody knows, and a ratio carried on burns out.
    """
    size = len(seen)
    small = (min(size, 128),) * 2
    both = seen * other_seen
    weight = cv2.resize(both, small, interpolation=cv2.INTER_AREA)
    own, others = (
        np.log(
            cv2.resize(weighted(picture.astype(np.float32), both), small, interpolation=cv2.INTER_AREA)
            / np.maximum(weight, 1e-6)[..., None]
            + 8
        )
        for picture in (colours, other)
    )
    mean = ((own - others) * weight[..., None]).sum((0, 1)) / max(float(weight.sum()), 1e-6)
    ratio = (own - others - mean).clip(-1, 1) * weight[..., None]
    sigma = small[0] / 16
    ratio, mass = cv2.GaussianBlur(ratio, (0, 0), sigma), cv2.GaussianBlur(weight, (0, 0), sigma)
    smooth = ratio / (mass + _UNKNOWN)[..., None]
    smooth = (smooth + smooth.mean(2, keepdims=True)) / 2  # light has hardly a colour of its own
    gain = cv2.resize(np.exp(smooth + mean).astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    lit = (other + np.float32(8)) * gain
    lit -= 8
    return np.asarray(np.clip(lit, 0, 255, out=lit))


def _smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    t = ((x - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def _bytes(values: np.ndarray) -> np.ndarray:
    values = values + np.float32(0.5)
    return np.clip(values, 0, 255, out=values).astype(np.uint8)
