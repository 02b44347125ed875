"""Photos of ICT heads with everything known: posed faces, their points and normals, without any network."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from pipeline.fitting.head import FitHead
from pipeline.fitting.observe import normals_of_quads
from pipeline.fitting.views import NormalMap, Points, View, ViewState
from pipeline.geometry import raster
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


def draw(
    vertices: np.ndarray,
    quads: np.ndarray,
    values: np.ndarray,
    state: ViewState,
    window: tuple[float, float, float],
    side: int = SIDE,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws values of a surface as a camera sees them.

    Args:
        vertices: (V, 3) cm, camera space.
        quads: (Q, 4), counter-clockwise seen from outside.
        values: (V, 3), such as normals.
        state: The camera.
        window: Left, top and side of the part of the photo that is drawn.
        side: Of the picture.

    Returns:
        (side, side, 3) float32 of unit length, 0 where nothing is seen, and (side, side) bool where
        something is.
    """
    pixels = scale_points(state.project(vertices) - window[:2], side / window[2])
    points = torch.from_numpy(np.column_stack([pixels, -1 / vertices[:, 2]]).astype(np.float32))[None]
    triangles = torch.from_numpy(np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int64))
    with torch.inference_mode():
        fragments = raster.rasterize(points, triangles, side, side)
        corners, weights = raster.barycentrics(fragments, points, triangles)
        table = torch.from_numpy(np.asarray(values, np.float32))[None]
        found = torch.nn.functional.normalize(raster.interpolate(corners, weights, table), dim=-1)
        image = fragments.dense(found)[0].numpy()
    return image, np.asarray(np.abs(image).sum(-1) > 0)


def normal_map(
    vertices: np.ndarray, quads: np.ndarray, state: ViewState, window: tuple[float, float, float]
) -> NormalMap:
    """The normals of a surface in camera space, as the network tells them of a window of its photo."""
    image, there = draw(vertices, quads, normals_of_quads(vertices, quads), state, window)
    empty = NormalMap(image, there.astype(np.float32) * 1000, *window)
    return replace(empty, normals=(image @ empty.to_camera(state.focal, state.centre)).astype(np.float32))


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
    ids = np.concatenate([head.dense, head.landmarks])
    rng = np.random.default_rng(seed)
    pixels = state.project(face[ids]) + rng.normal(0, 1, (len(ids), 2)) * noise
    middle = state.project(state.position[None])[0]
    size = 24 * state.focal / -state.position[2]
    left, top = middle - size / 2
    view = View(
        width=800,
        height=600,
        points=Points(ids, pixels, np.full(len(ids), sigma)),
        normals=normal_map(vertices, quads, state, (left, top, size)),
        focal=state.focal if focal_known else None,
    )
    return Photo(view, state, vertices, normals_of_quads(vertices, quads))
