"""From a photo to a head with its details, step by step.

    from pipeline import reconstruct_head
    head = reconstruct_head(image)

`reconstruct_head` is the whole way; the parts from `fit_heads` on take several photos of one person as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.details.bake import displacement_map, normal_map
from pipeline.details.config import DetailsConfig
from pipeline.details.displace import Displacement, displace
from pipeline.details.eyes import eye_texture
from pipeline.details.head import Head, HeadMaps
from pipeline.details.kit import HeadKit, head_kit
from pipeline.details.mouth import with_lips_closed
from pipeline.details.skin import face_area
from pipeline.details.unwrap import PhotoView, PosedHead, Shown, continued, show, unwrap
from pipeline.faces.crop import CropShape, CropWindow, crop_image, inner_window
from pipeline.faces.detect import DetectConfig, FaceFinder
from pipeline.faces.landmarks import Face
from pipeline.fitting.fit import Fit, FitError, ViewQuality, fit_views
from pipeline.fitting.head import FitHead
from pipeline.fitting.views import NormalMap, Points, View, ViewState
from pipeline.geometry.head_model import FACE_VERTICES
from pipeline.geometry.mesh import BACK_HEAD, EYES, FACE, tangents, vertex_normals
from pipeline.geometry.uv import uv_map
from pipeline.images.given import AnyPhoto, as_pixels
from pipeline.normals.estimate import estimate_normals
from pipeline.normals.inference import NormalsEstimator
from pipeline.weights import DEFAULT

TEXTURE_CROP = CropShape("texture", scale=2.0, size=None, limit=1536, form="jpeg")
"""The part of the photo that a head's texture is taken from."""

EYE_SIZE = BACK_SIZE = 256
"""Sides of the textures of eyeballs and of the back of the head."""

_LANDMARK_SIGMA = 0.03
"""Standard deviation of landmarks that tell none, as a share of the face's size."""

_JAW = 17
"""Number of landmarks on the contour of the jaw, the first ones."""

_BROWS = slice(17, 27)
"""Landmarks of the brows."""

_UNSURE = 100.0
"""Confidence of normals that tell none: about 6 degrees."""

_SHAPES = (3 / 2, 4 / 3, 16 / 9, 1.0)
"""Sides of photos as cameras take them; others were cropped, and their focal length is not what EXIF says."""

_FILM_DIAGONAL_MM = 43.27


@dataclass(frozen=True, eq=False)
class FacePhoto:
    """A face in a photo, as fit and texture need it.

    Attributes:
        view: Points, normals and camera.
        picture: (S, S, 3) uint8 RGB: a window of the photo.
        window: Which.
    """

    view: View
    picture: np.ndarray
    window: CropWindow

    @classmethod
    def of(cls, view: View, picture: np.ndarray, window: CropWindow) -> FacePhoto:
        """A face in a photo, whose points are corrected by what the picture tells better."""
        return cls(with_lips_closed(view, picture, window), picture, window)

    def seen_by(self, state: ViewState) -> PhotoView:
        """The picture, and its camera as part of a photo's."""
        scale = len(self.picture) / self.window.size
        x, y = self.window.to_crop(state.centre, len(self.picture))
        return PhotoView(self.picture, state.focal * scale, (float(x), float(y)))


def reconstruct_head(
    image: AnyPhoto,
    config: DetailsConfig | None = None,
    *,
    face: Face | None = None,
    focal: float | None = None,
    normals: NormalsEstimator | None = None,
) -> Head:
    """Reconstructs the head of the largest face in a photo.

    Args:
        image: (H, W, 3) uint8 RGB, upright; or a Pillow image, a path or URL, or the bytes of a file.
        config: Settings.
        face: The face, if another one is meant or it is known already; a `FaceFinder` finds them.
        focal: Focal length in pixels, where it is known.
        normals: For many calls make one once and pass it.

    Raises:
        FitError: There is no face, or no head fits it.
        AssetsError: The head model is not there.
    """
    image, config = as_pixels(image), config or DetailsConfig()
    kit = head_kit(level=config.level)
    if face is None:
        found = FaceFinder(DetectConfig(mode="auto", faces="largest"))(image)
        if not found:
            raise FitError("there is no face in the photo")
        face = found[0]
    return reconstruct([look_at(image, face, kit, config, focal=focal, normals=normals)], kit, config)[0]


def look_at(
    image: np.ndarray,
    face: Face,
    kit: HeadKit,
    config: DetailsConfig,
    *,
    focal: float | None = None,
    normals: NormalsEstimator | None = None,
) -> FacePhoto:
    """Finds out what the fit needs of a face; arguments as for `reconstruct_head`."""
    height, width = image.shape[:2]
    (answer,) = estimate_normals(image, normals or DEFAULT, lambda _: [face])
    surroundings = inner_window(face.landmarks, width, height, TEXTURE_CROP.scale)
    side = min(surroundings.size, TEXTURE_CROP.limit)
    view = View(
        width,
        height,
        points=face_points(kit.head, face),
        normals=normals_of(answer.normals, answer.window, answer.mask, answer.confidence),
        focal=focal,
        actions=config.hints,
    )
    return FacePhoto.of(view, crop_image(image, surroundings, side), surroundings)


def reconstruct(photos: list[FacePhoto], kit: HeadKit, config: DetailsConfig) -> list[Head]:
    """Reconstructs the head of one person in each of some photos.

    Raises:
        FitError: No head fits all of them.
    """
    fit = fit_views([photo.view for photo in photos], kit.head, config.fit)
    for quality in fit.quality:
        check_quality(quality, config)
    return finish_heads(photos, fit, kit, config)


def finish_heads(photos: list[FacePhoto], fit: Fit, kit: HeadKit, config: DetailsConfig) -> list[Head]:
    """Adds to a fit displacement and pictures of every photo; what it hides is taken from the others."""
    posed = [
        pose(photo, state, kit.vertices(fit.identity, state.expression), kit)
        for photo, state in zip(photos, fit.views, strict=True)
    ]
    shown = [show_face(head, kit, config.texture_size) for head in posed]
    return [
        _finish_head(photo, fit, k, posed[k], [*shown[k:], *shown[:k]], kit=kit, config=config)
        for k, photo in enumerate(photos)
    ]


def pose(photo: FacePhoto, state: ViewState, vertices_head: np.ndarray, kit: HeadKit) -> PosedHead:
    """Puts a head, (V, 3) in head space, before the camera of a photo."""
    vertices_camera = state.to_camera(vertices_head)
    normals_camera = vertex_normals(vertices_camera, kit.proxy)
    return PosedHead(photo.seen_by(state), vertices_camera, normals_camera, kit.proxy)


def _finish_head(
    photo: FacePhoto,
    fit: Fit,
    k: int,
    posed: PosedHead,
    shown: list[Shown],
    *,
    kit: HeadKit,
    config: DetailsConfig,
) -> Head:
    state, normals = fit.views[k], photo.view.normals
    assert normals is not None
    displacement = displace(posed.vertices[:FACE_VERTICES], state, normals, kit.grid, config.displace)
    return Head(
        kit=kit,
        identity=fit.identity,
        view=state,
        width=photo.view.width,
        height=photo.view.height,
        quality=fit.quality[k],
        maps=make_maps(posed, displacement, kit, shown),
        stages=fit.stages,
    )


def show_face(posed: PosedHead, kit: HeadKit, size: int) -> Shown:
    """Finds out what a photo shows of the face, in a texture of so many texels a side."""
    texels = uv_map(kit.proxy.only(FACE), size)
    return show(posed, texels, face_area(texels, tuple(kit.head.landmarks[_BROWS].tolist())))


def make_maps(posed: PosedHead, displacement: Displacement, kit: HeadKit, shown: list[Shown]) -> HeadMaps:
    """Makes the pictures of a head.

    Args:
        posed: The proxy in the photo that its colours are taken from.
        displacement: Of its face.
        kit: The head model.
        shown: What this photo shows of the face, and after it what others of the person do.
    """
    size = len(shown[0].weight)
    part, fine_part = kit.proxy.only(FACE), kit.fine.only(FACE)
    texels, fine_texels = uv_map(part, size), uv_map(fine_part, size)
    texture = unwrap(shown[0], shown[1:])
    left, right = (eye_texture(posed, uv_map(kit.proxy.only(eye), EYE_SIZE)) for eye in EYES)
    detailed = vertex_normals(displacement.vertices, fine_part)
    return HeadMaps(
        texture=texture.picture,
        visibility=texture.visibility,
        displacement=displacement_map(displacement.height * 10, fine_texels),
        normals=normal_map(
            fine_texels.carried(fine_texels.sample(detailed), texels),
            posed.normals,
            tangents(posed.vertices, posed.normals, kit.proxy),
            texels,
        ),
        eyes=(left, right),
        back=back_texture(texture.picture, kit),
    )


def back_texture(texture: np.ndarray, kit: HeadKit) -> np.ndarray:
    """Texture of the back of the head, which goes on with that of the face."""
    texels = uv_map(kit.proxy.only(BACK_HEAD), BACK_SIZE)
    return continued(texture, kit.proxy, FACE, BACK_HEAD, texels)


def check_quality(quality: ViewQuality, config: DetailsConfig) -> None:
    """Refuses what is no fit.

    Raises:
        FitError: With the numbers.
    """
    if not quality.points_share <= config.most_off:
        raise FitError(
            f"no head fits the points: half of them are more than {quality.points_share:.1%} of the face's "
            f"size away (details.most_off is {config.most_off:.1%})"
        )


def face_points(head: FitHead, face: Face) -> Points:
    """The points of a face that was found."""
    if face.points is None:
        return points_of(head, face.landmarks, None, None)
    count = len(head.dense)
    points = np.column_stack([face.points.points, face.points.sigma[:count]])
    return points_of(head, face.landmarks, points, face.points.visible[:count])


def points_of(
    head: FitHead, landmarks: np.ndarray, points: np.ndarray | None, visible: np.ndarray | None
) -> Points:
    """The points of a face for the fit.

    Args:
        head: The head model.
        landmarks: (68, 2) pixels of the photo.
        points: (500, 3) dense points with their sigma, or None: the landmarks are somebody else's, and mean
            other vertices than ours.
        visible: (500,) probability that each is seen, or None.
    """
    size = float(np.ptp(landmarks, axis=0).max())
    if points is None:
        contour = np.arange(len(landmarks)) < _JAW
        return Points(head.landmarks, landmarks, np.full(len(landmarks), _LANDMARK_SIGMA * size), contour)
    sigma = np.maximum(points[:, 2], 1e-3 * size)
    if visible is not None:
        sigma = sigma / np.sqrt(np.clip(visible, 0.05, 1))
    return Points(
        np.concatenate([head.dense, head.landmarks]),
        np.concatenate([points[:, :2], landmarks]).astype(float),
        np.concatenate([sigma, np.full(len(landmarks), np.median(sigma))]).astype(float),
    )


def normals_of(
    normals: np.ndarray, window: CropWindow, mask: np.ndarray | None, confidence: np.ndarray | None
) -> NormalMap:
    """The normals of a face for the fit.

    Args:
        normals: (S, S, 3) unit normals of the crop camera.
        window: What they show of the photo.
        mask: (S, S) uint8, 255 where they are meant; None: everywhere.
        confidence: (S, S), or None where the network does not learn it.
    """
    sure = np.full(normals.shape[:2], _UNSURE) if confidence is None else confidence
    if mask is not None:
        sure = np.where(mask > 127, sure, 0)
    return NormalMap(normals, sure.astype(np.float32), window.left, window.top, window.size)


def focal_pixels(focal_35mm: float | None, width: int, height: int) -> float | None:
    """Focal length in pixels by EXIF's equivalent on 35 mm film; None where it is not to be believed."""
    shape = max(width, height) / min(width, height)
    cropped = min(abs(shape / camera - 1) for camera in _SHAPES) > 0.01
    if focal_35mm is None or cropped or not 10 <= focal_35mm <= 400:
        return None
    return focal_35mm / _FILM_DIAGONAL_MM * float(np.hypot(width, height))
