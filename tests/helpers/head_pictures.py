"""Pictures of a posed head by the product's rasteriser, with textures from texture space."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch

from pipeline.details.unwrap import PhotoView
from pipeline.geometry.mesh import Topology, vertex_normals
from pipeline.geometry.raster import barycentrics, interpolate, rasterize
from pipeline.geometry.uv import read_picture

LIGHT = np.array([-0.4, 0.45, 0.8])


def turn(yaw: float, pitch: float = 0.0) -> np.ndarray:
    """Rotation (3, 3) by degrees about y, then about x."""
    a, b = np.radians([yaw, pitch])
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return (about_x @ about_y).astype(np.float32)


def placed(vertices: np.ndarray, rotation: np.ndarray, distance_cm: float = 80.0) -> np.ndarray:
    """Head vertices (V, 3) in front of a camera: (V, 3) in camera space."""
    return (vertices @ rotation.T + np.array([0, 0, -distance_cm], np.float32)).astype(np.float32)


def view_of(size: int, image: np.ndarray | None = None) -> PhotoView:
    """A square photo in which a head at 80 cm fills most of the height."""
    image = np.zeros((size, size, 3), np.uint8) if image is None else image
    return PhotoView(image, focal=2.2 * size, centre=((size - 1) / 2, (size - 1) / 2))


def shading(vertices: np.ndarray, topology: Topology) -> np.ndarray:
    """Light (V, 3) float32 from above on the left, for `draw`."""
    shade = (vertex_normals(vertices, topology) @ LIGHT / np.linalg.norm(LIGHT)).clip(0)
    return np.repeat((0.3 + 1.2 * shade)[:, None], 3, 1).astype(np.float32)


def side_by_side(tiles: Sequence[np.ndarray], side: int, gap: int) -> np.ndarray:
    """Square pictures reduced to `side` pixels in a row, `gap` white pixels apart."""
    small = [cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA) for tile in tiles]
    between = np.full((side, gap, 3), 255, np.uint8)
    return np.concatenate([part for tile in small for part in (tile, between)][:-1], axis=1)


def draw(
    view: PhotoView,
    vertices_camera: np.ndarray,
    topology: Topology,
    textures: Mapping[str, np.ndarray],
    light: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a head.

    Args:
        view: Size and camera.
        vertices_camera: (V, 3).
        topology: What is drawn.
        textures: Part -> (S, S, 3) uint8; parts without one are grey.
        light: (V, 3) float32, each vertex's colours are multiplied by; None: as they are.

    Returns:
        (H, W, 3) uint8 and the part seen at each pixel (H, W), -1 for none.
    """
    height, width = view.image.shape[:2]
    points = torch.from_numpy(view.project(vertices_camera))[None]
    triangles = torch.from_numpy(topology.triangles.astype(np.int64))
    fragments = rasterize(points, triangles, height, width)
    corners, weights = barycentrics(fragments, points, triangles)
    hit = fragments.triangle.numpy()
    uv = (topology.uv[topology.triangles_uv[hit]] * weights.numpy()[:, :, None]).sum(1)
    part = np.concatenate([topology.part, topology.part[topology.is_quad]])[hit]
    colours = np.full((len(hit), 3), 160, np.float32)
    for name, picture in textures.items():
        here = part == topology.part_names.index(name)
        colours[here] = read_picture(picture, uv[here])
    if light is not None:
        colours *= interpolate(corners, weights, torch.from_numpy(light)[None]).numpy()
    image = fragments.dense(torch.from_numpy(colours))[0].numpy()
    parts = fragments.dense(torch.from_numpy(part.astype(np.int64)), -1)[0].numpy()
    return np.rint(image.clip(0, 255)).astype(np.uint8), parts
