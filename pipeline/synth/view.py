"""Distributions of photos: camera, head pose, and where the face is in the photo.

| what | distribution |
|---|---|
| distance to the face | log-uniform 35..300 cm; portraits 60..250 cm |
| focal length | log-normal about 1.2 of the photo's longer side, 0.6..5; shortened until the face fits |
| place in the photo | N(0.5, 0.12) of the width, N(0.45, 0.09) of the height |
| yaw | 35 % U(-75, 75), 8 % U(65, 95) to either side, else N(0, 20) degrees; portraits N(0, 11) |
| pitch | camera height N(0, 8) plus nod N(0, 9); one in ten U(-35, 35); portraits N(0, 4) + N(0, 5) |
| roll | N(0, 11); portraits N(0, 5) |
| side of the crop window | log-uniform 70..900 pixels of the photo |

Yaw and pitch are relative to the line of sight, since people look into the lens also at the side of the
photo; normals are in the photo's camera space all the same (and turned where they are used, see
`pipeline.geometry.crop_camera`). The face turns first, the camera's height tilts it then.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.faces.crop import CROP_SCALE, CropWindow, crop_window
from pipeline.geometry.crop_camera import rotation_between

FACE_CENTRE = np.array([0.0, -1.5, 8.0])
"""Point of the head, in head space, to which distances and places refer: below the nose, inside."""

_FACE_SIZE = 18.0
"""Longer side of the landmarks' box of an average head, cm."""

_ASPECTS = (1.0, 0.8, 0.75, 2 / 3, 0.5625)
"""Shorter over longer side of photos."""


@dataclass(frozen=True)
class CameraPose:
    """One photo: the camera, and where the head is in front of it.

    Attributes:
        width: Width of the photo in pixels.
        height: Height of the photo in pixels.
        focal: Focal length in pixels.
        rotation: (3, 3) float64, head space to camera space.
        translation: (3,) float64, the head's origin in camera space, cm.
    """

    width: int
    height: int
    focal: float
    rotation: np.ndarray
    translation: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """(2,) principal point in pixels: the middle of the photo."""
        return np.array([self.width - 1, self.height - 1]) / 2

    @property
    def distance(self) -> float:
        """Depth of the face in cm."""
        return float(-(self.rotation @ FACE_CENTRE + self.translation)[2])

    def angles(self) -> tuple[float, float, float]:
        """Yaw, pitch and roll in degrees, relative to the camera's axes (see `rotation_matrix`)."""
        forward, right = self.rotation[:, 2], self.rotation[:, 0]
        yaw = np.arctan2(forward[0], forward[2])
        pitch = np.arcsin(np.clip(forward[1], -1, 1))
        # Roll is what is left of the head's right axis when yaw and pitch are taken out.
        level = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
        roll = np.arctan2(right @ np.cross(forward, level), right @ level)
        return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))

    def project(self, points: np.ndarray) -> np.ndarray:
        """Projects points (N, 3) in head space to pixels (N, 2) of the photo."""
        seen = points @ self.rotation.T + self.translation
        return self.centre + self.focal * seen[:, :2] * [1, -1] / -seen[:, 2:]


def rotation_matrix(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation (3, 3) from head space to camera space: yaw, then pitch, then roll.

    Args:
        yaw: Radians; positive turns the face to the right of the image.
        pitch: Radians; positive raises the face.
        roll: Radians; positive leans the head counter-clockwise in the image.
    """
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def draw_pose(rng: np.random.Generator, portrait: bool) -> np.ndarray:
    """Draws the head's rotation (3, 3) relative to the line of sight."""
    if portrait:
        yaw, height, nod, roll = rng.normal(0, [11, 4, 5, 5])
    else:
        kind = rng.random()
        if kind < 0.35:
            yaw = rng.uniform(-75, 75)
        elif kind < 0.43:
            yaw = rng.uniform(65, 95) * rng.choice([-1, 1])
        else:
            yaw = rng.normal(0, 20)
        height, nod, roll = rng.normal(0, [8, 9, 11])
        if rng.random() < 0.1:
            height, nod = rng.uniform(-35, 35), 0.0
    yaw, height, nod, roll = np.radians([yaw, height, nod, roll])
    return rotation_matrix(yaw, height, roll) @ rotation_matrix(0, nod, 0)


def draw_view(
    rng: np.random.Generator,
    portrait: bool = False,
    pose: Callable[[np.random.Generator, bool], np.ndarray] = draw_pose,
) -> CameraPose:
    """Draws a photo.

    Args:
        rng: The sample's own generator.
        portrait: What a photographer would do: from the front, level, not too near.
        pose: Draws the head's rotation.
    """
    distance = np.exp(rng.uniform(*np.log([60, 250] if portrait else [35, 300])))
    # Lengths are in units of the photo's longer side until the number of pixels is chosen.
    aspect = float(rng.choice(_ASPECTS))
    width, height = (1.0, aspect) if rng.random() < 0.5 else (aspect, 1.0)
    focal = np.clip(1.2 * np.exp(rng.normal(0, 0.4)), 0.6, 5.0)
    focal = min(focal, rng.uniform(0.5, 0.8) * aspect * distance / _FACE_SIZE)
    place = np.clip(rng.normal([0.5, 0.45], [0.12, 0.09]), 0.15, 0.85)
    sight = np.array([(place[0] - 0.5) * width, (0.5 - place[1]) * height, -focal]) / focal
    towards_camera = -sight / np.linalg.norm(sight)
    rotation = rotation_between(np.array([0.0, 0.0, 1.0]), towards_camera) @ pose(rng, portrait)
    window = np.exp(rng.uniform(*np.log([70, 900])))
    pixels = window * distance / (CROP_SCALE * _FACE_SIZE * focal)
    return CameraPose(
        width=max(int(width * pixels), 64),
        height=max(int(height * pixels), 64),
        focal=focal * pixels,
        rotation=rotation,
        translation=sight * distance - rotation @ FACE_CENTRE,
    )


def draw_window(rng: np.random.Generator, landmarks: np.ndarray) -> CropWindow:
    """Draws the crop window that a detector would give: the product's rule on jittered landmarks.

    Each landmark moves by 1.2 % of the face, all of them together by 5 %, and the window's scale by 11 %
    (standard deviations), somewhat more than a detector does. The scene goes on beyond the photo's border;
    that training crops have borders is left to their augmentation, which mirrors as the product does.

    Args:
        rng: The sample's own generator.
        landmarks: (68, 2) projected landmarks in pixels of the photo.
    """
    size = np.ptp(landmarks, axis=0).max()
    found = landmarks + size * (rng.normal(0, 0.05, 2) + rng.normal(0, 0.012, (68, 2)))
    scale = CROP_SCALE * np.exp(np.clip(rng.normal(0, 0.11), -0.3, 0.3))
    return crop_window(found, scale)
