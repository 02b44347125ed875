"""The ICT-FaceKit head: coefficients to vertices, normals, eye rotation and baked ambient occlusion.

Head space is that of the model: centimetres, x to the subject's left, y up, z forward. The shells for
render engines (lacrimal fluid, eye blend, eye occlusion, lashes) would hide the eyes and are left out, and
so are the concave irises: the sclera is closed in front of them and takes a painted iris. The vertices that
remain keep their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.assets import find_ict_facekit
from pipeline.assets.ict_facekit import content_digest, load
from pipeline.geometry.raster import nearness_map
from pipeline.weights import shipped_folder

DROPPED = ("M_LacrimalFluid", "M_EyeBlend", "M_EyeOcclusion", "M_EyeLashes", "M_IrisLeft", "M_IrisRight")
"""Materials that are not drawn."""

SCLERA = ("M_ScleraLeft", "M_ScleraRight")
"""Materials of the eyeballs, left first."""

FACE_VERTICES = 9409
"""Vertices 0..9408 are the face (with ears, scalp front and neck front)."""

NARROW_FACE_VERTICES = 6706
"""Vertices 0..6705 are the narrow face area."""

MAX_GAZE = np.radians([35.0, 25.0])
"""Largest turn of the eyes, sideways and up or down, in radians."""

OCCLUSION_FILE = "ict_facekit_occlusion.npz"
"""The baked ambient occlusion, in the folder of the weights."""


@dataclass(frozen=True, eq=False)
class FaceModel:
    """The head model as tensors on one device.

    Attributes:
        neutral: (V, 3) float32, the neutral mean head.
        identity: (100, V * 3) float32 offsets; coefficients are N(0, 1).
        expression: (53, V * 3) float32 offsets; weights are 0..1.
        expression_names: Names of the expressions, ARKit-like.
        faces: (Q, 4) int64 vertex ids of quads; a triangle repeats its last corner.
        triangles: (T, 3) int64, counter-clockwise seen from outside.
        material: (T,) int64, index into `material_names`.
        material_names: Names of the materials.
        landmarks: (68,) int64 vertex ids of the 68 landmarks in dlib's order.
        corners: For n = 0, 1 ...: (vertex ids, face ids) of the n-th face at each vertex that has one.
        eyes: Left and right eyeball: (E,) int64 vertex ids.
        occlusion: (2, V) float32: share of the sky that a vertex sees, with closed and with open mouth.
    """

    neutral: Tensor
    identity: Tensor
    expression: Tensor
    expression_names: tuple[str, ...]
    faces: Tensor
    triangles: Tensor
    material: Tensor
    material_names: tuple[str, ...]
    landmarks: Tensor
    corners: tuple[tuple[Tensor, Tensor], ...]
    eyes: tuple[Tensor, Tensor]
    occlusion: Tensor

    def expression_index(self, name: str) -> int:
        """Index of an expression by its name."""
        return self.expression_names.index(name)

    def to(self, device: str | torch.device) -> FaceModel:
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        corners = tuple((vertices.to(device), faces.to(device)) for vertices, faces in self.corners)
        left, right = self.eyes
        return replace(self, **moved, corners=corners, eyes=(left.to(device), right.to(device)))


@lru_cache(maxsize=4)
def load_face_model(path: str | Path | None = None, device: str = "cpu") -> FaceModel:
    """Loads the head model (a second; cached in the process).

    Its ambient occlusion comes with Facet; that of another model is baked (some seconds).

    Raises:
        AssetsError: The model is not there or is not what it should be.
    """
    arrays = load(find_ict_facekit(path))
    model = _assemble(arrays)
    with np.load(shipped_folder() / OCCLUSION_FILE) as stored:
        known = str(stored["sha256"]) == _occluders_digest(arrays)
        occlusion = torch.from_numpy(stored["occlusion"]) if known else bake_occlusion(model)
    return replace(model, occlusion=occlusion).to(device)


def write_occlusion(path: str | Path | None = None, target: Path | None = None) -> None:
    """Bakes the ambient occlusion that comes with Facet: once for a version of the head model.

    Args:
        path: As for `load_face_model`.
        target: The file to write; Facet's own by default.
    """
    arrays = load(find_ict_facekit(path))
    np.savez_compressed(
        target or shipped_folder() / OCCLUSION_FILE,
        occlusion=bake_occlusion(_assemble(arrays)).numpy(),
        sha256=np.array(_occluders_digest(arrays)),
    )


def _occluders_digest(arrays: dict[str, np.ndarray]) -> str:
    """Digest of all that the occlusion follows from."""
    jaw = arrays["expression_names"].tolist().index("jawOpen")
    names = ("neutral", "faces", "face_material", "material_names")
    return content_digest({name: arrays[name] for name in names} | {"jaw": arrays["expression"][jaw]})


def _assemble(arrays: dict[str, np.ndarray]) -> FaceModel:
    names = tuple(str(name) for name in arrays["material_names"])
    shown = ~np.isin(arrays["face_material"], [names.index(name) for name in DROPPED])
    faces = arrays["faces"][shown].astype(np.int64)
    material = arrays["face_material"][shown].astype(np.int64)
    is_quad = faces[:, 3] >= 0
    faces[~is_quad, 3] = faces[~is_quad, 2]
    count = int(faces.max()) + 1
    triangles = np.concatenate([faces[:, [0, 1, 2]], faces[is_quad][:, [0, 2, 3]]])
    left, right = (torch.from_numpy(np.unique(faces[material == names.index(name)])) for name in SCLERA)

    def offsets(name: str) -> Tensor:
        block = arrays[name][:, :count].astype(np.float32)
        return torch.from_numpy(block.reshape(len(block), -1))

    return FaceModel(
        neutral=torch.from_numpy(arrays["neutral"][:count].astype(np.float32)),
        identity=offsets("identity"),
        expression=offsets("expression"),
        expression_names=tuple(str(name) for name in arrays["expression_names"]),
        faces=torch.from_numpy(faces),
        triangles=torch.from_numpy(triangles),
        material=torch.from_numpy(np.concatenate([material, material[is_quad]])),
        material_names=names,
        landmarks=torch.from_numpy(arrays["landmarks68"].astype(np.int64)),
        corners=_corner_lists(faces, is_quad),
        eyes=(left, right),
        occlusion=torch.ones(2, count),
    )


def _corner_lists(faces: np.ndarray, is_quad: np.ndarray) -> tuple[tuple[Tensor, Tensor], ...]:
    """Groups (vertex, face) incidences so that no vertex occurs twice in a group.

    Sums over a vertex's faces then need no atomic adds and come out the same on every device.
    """
    face_ids = np.concatenate([np.repeat(np.arange(len(faces)), 3), np.nonzero(is_quad)[0]])
    vertices = np.concatenate([faces[:, :3].ravel(), faces[is_quad, 3]])
    order = np.argsort(vertices, kind="stable")
    vertices, face_ids = vertices[order], face_ids[order]
    rank = np.arange(len(vertices)) - np.searchsorted(vertices, vertices)
    # A few poles of the teeth join 28 faces; eight are enough for a normal.
    groups = [rank == n for n in range(min(int(rank.max()) + 1, 8))]
    return tuple((torch.from_numpy(vertices[g]), torch.from_numpy(face_ids[g])) for g in groups)


def head_vertices(model: FaceModel, identity: Tensor, expression: Tensor) -> Tensor:
    """Vertices of heads.

    Args:
        model: The head model.
        identity: (B, 100) coefficients.
        expression: (B, 53) weights.

    Returns:
        (B, V, 3) centimetres in head space.
    """
    offsets = identity @ model.identity
    offsets += expression @ model.expression
    return offsets.reshape(len(identity), -1, 3) + model.neutral


def rotate_eyes(model: FaceModel, vertices: Tensor, gaze: Tensor) -> tuple[Tensor, Tensor]:
    """Turns the eyeballs.

    Args:
        model: The head model.
        vertices: (B, V, 3) with eyes that look straight ahead.
        gaze: (B, 2) radians: yaw (positive to the subject's left) and pitch (positive up), or (B, 2, 2)
            for the left and the right eye by themselves.

    Returns:
        Vertices with turned eyes, and the eyes' centres (B, 2, 3), left first.
    """
    if gaze.ndim == 2:
        gaze = gaze[:, None].expand(-1, 2, -1)
    yaw, pitch = gaze.unbind(-1)
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    sy, cy, sp, cp = yaw.sin(), yaw.cos(), pitch.sin(), pitch.cos()
    about_y = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], -1).unflatten(-1, (3, 3))
    about_x = torch.stack([one, zero, zero, zero, cp, sp, zero, -sp, cp], -1).unflatten(-1, (3, 3))
    rotation = about_y @ about_x
    vertices = vertices.clone()
    centres = []
    for side, ids in enumerate(model.eyes):
        points = vertices[:, ids]
        centre = (points.amin(1) + points.amax(1))[:, None] / 2
        vertices[:, ids] = (points - centre) @ rotation[:, side].transpose(1, 2) + centre
        centres.append(centre[:, 0])
    return vertices, torch.stack(centres, 1)


def head_normals(model: FaceModel, vertices: Tensor, eye_centres: Tensor | None = None) -> Tensor:
    """Unit vertex normals, area-weighted over the faces at each vertex.

    Args:
        model: The head model.
        vertices: (B, V, 3).
        eye_centres: (B, 2, 3); given, the eyeballs get the normals of spheres.

    Returns:
        (B, V, 3), pointing outwards.
    """
    points = vertices.transpose(0, 1).contiguous()  # vertex-major: gathers move whole batches
    a, b, c, d = (points.index_select(0, column) for column in model.faces.unbind(1))
    face_normals = torch.linalg.cross(c - a, d - b)
    normals = torch.zeros_like(points)
    for vertex_ids, face_ids in model.corners:
        normals.index_add_(0, vertex_ids, face_normals.index_select(0, face_ids))
    normals = normals.transpose(0, 1).contiguous()
    if eye_centres is not None:
        for side, ids in enumerate(model.eyes):
            normals[:, ids] = vertices[:, ids] - eye_centres[:, side, None]
    return normals / normals.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-12)


def sphere_directions(count: int) -> Tensor:
    """(count, 3) unit vectors spread evenly over the sphere (Fibonacci lattice)."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    height = 1 - 2 * index / count
    angle = index * np.pi * (3 - 5**0.5)
    radius = (1 - height**2).sqrt()
    return torch.stack([radius * angle.cos(), height, radius * angle.sin()], 1).float()


def parallel_points(vertices: Tensor, directions: Tensor, size: int) -> Tensor:
    """Parallel projection of vertices along directions, scaled to fill square images.

    Args:
        vertices: (B, V, 3).
        directions: (B, 3) unit vectors from the object to the viewer (or lamp).
        size: Side of the images in pixels.

    Returns:
        (B, V, 3) pixel x, pixel y and nearness for `pipeline.geometry.raster`.
    """
    helper = torch.zeros_like(directions)
    helper[:, 1] = 1.0
    helper[directions[:, 1].abs() > 0.9] = helper.new_tensor([1.0, 0.0, 0.0])
    right = torch.nn.functional.normalize(torch.linalg.cross(helper, directions), dim=-1)
    up = torch.linalg.cross(directions, right)
    projected = vertices @ torch.stack([right, -up, directions], 2)
    low, high = projected.amin(1, keepdim=True), projected.amax(1, keepdim=True)
    scale = (size - 3) / (high - low)[..., :2].amax(-1, keepdim=True).clamp(min=1e-6)
    return torch.cat(
        [(projected[..., :2] - low[..., :2]) * scale + 1, projected[..., 2:] - low[..., 2:] + 1], -1
    )


def bake_occlusion(model: FaceModel, directions: int = 96, size: int = 256) -> Tensor:
    """Ambient occlusion per vertex by depth maps from all sides: cosine-weighted share of open sky."""
    jaw = torch.zeros(2, len(model.expression_names))
    jaw[1, model.expression_index("jawOpen")] = 1.0
    heads = head_vertices(model, torch.zeros(2, len(model.identity)), jaw)
    normals = head_normals(model, heads)
    seen, total = torch.zeros(heads.shape[:2]), torch.zeros(heads.shape[:2])
    for direction in sphere_directions(directions):
        points = parallel_points(heads, direction.expand(2, 3), size)
        nearest = nearness_map(points, model.triangles, size, size, cull=False)
        cosine = (normals @ direction).clamp(min=0)
        columns, rows = points[..., 0].round().long(), points[..., 1].round().long()
        found = nearest.flatten(1).gather(1, rows * size + columns)
        # The tolerance of 2 mm covers a pixel's slope; it leaves narrow creases a little too bright.
        seen += cosine * (points[..., 2] > found - 0.2)
        total += cosine
    return seen / total.clamp(min=1e-6)
