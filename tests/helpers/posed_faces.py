"""Photos of ICT heads with everything known: posed faces, their points and normals, without any network."""

from dataclasses import dataclass

import numpy as np

from pipeline.evaluate.shapes import normal_image
from pipeline.fitting.head import FitHead
from pipeline.fitting.observe import normals_of_quads
from pipeline.fitting.views import NormalMap, Points, View, ViewState
from pipeline.pixels import scale_points
from pipeline.synth.view import rotation_matrix

SIDE = 256
"""Side of the normal maps."""


def camera(
    yaw: float = 0, pitch: float = 0, roll: float = 0, distance: float = 90, at: tuple[float, float] = (0, 0)
) -> ViewState:
    """A camera of 800 x 600 pixels that looks at a head; angles in degrees, lengths in cm."""
    return ViewState(
        expression=np.zeros(53),
        rotation=rotation_matrix(*np.radians([yaw, pitch, roll])),
        position=np.array([*at, -distance]),
        focal=1400.0,
        centre=np.array([399.5, 299.5]),
        tilt=np.eye(3),
    )


@dataclass(frozen=True, eq=False)
class Photo:
    """A view, and the truth behind it: vertices (N, 3) and unit normals in camera space."""

    view: View
    truth: ViewState
    vertices: np.ndarray
    normals: np.ndarray


def take(
    head: FitHead,
    identity: np.ndarray,
    state: ViewState,
    surface: tuple[np.ndarray, np.ndarray] | None = None,
    sigma: float = 0.5,
    noise: float = 0.0,
    seed: int = 0,
    focal_known: bool = False,
) -> Photo:
    """Takes a photo of a face.

    Args:
        head: The head model.
        identity: (100,).
        state: Camera, pose and expression.
        surface: Vertices (N, 3) in camera space and quads of the surface that the normals show; None: the
            face itself.
        sigma: What the points say of their precision, pixels.
        noise: Standard deviation of the points' error, pixels.
        seed: Of the noise.
        focal_known: The photo tells its focal length.
    """
    face = state.to_camera(head.vertices(identity, state.expression))
    vertices, quads = surface or (face, head.quads)
    normals = normals_of_quads(vertices, quads)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    ids = np.concatenate([head.dense, head.landmarks])
    rng = np.random.default_rng(seed)
    pixels = state.project(face[ids]) + rng.normal(0, 1, (len(ids), 2)) * noise
    middle = state.project(state.position[None])[0]
    size = 24 * state.focal / -state.position[2]
    left, top = middle - size / 2
    scale = SIDE / size
    image, there = normal_image(
        vertices,
        triangles,
        normals,
        focal=state.focal * scale,
        centre=scale_points(state.centre - [left, top], scale),
        width=SIDE,
        height=SIDE,
    )
    empty = NormalMap(image, there * 1000.0, left, top, size)
    turned = (image @ empty.to_camera(state.focal, state.centre)).astype(np.float32)
    view = View(
        width=800,
        height=600,
        points=Points(ids, pixels, np.full(len(ids), sigma)),
        normals=NormalMap(turned, there.astype(np.float32) * 1000, left, top, size),
        focal=state.focal if focal_known else None,
    )
    return Photo(view, state, vertices, normals)
