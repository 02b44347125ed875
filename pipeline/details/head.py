"""A reconstructed head: what was found of it, and the meshes that follow from that."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pipeline.details.bake import displacement_at
from pipeline.details.kit import HeadKit
from pipeline.fitting.expressions import action_units
from pipeline.fitting.fit import State, ViewQuality
from pipeline.fitting.observe import normals_of_quads
from pipeline.fitting.views import ViewState
from pipeline.geometry.arkit import arkit_weights
from pipeline.geometry.head_model import FACE_VERTICES


@dataclass(frozen=True, eq=False)
class HeadMaps:
    """Pictures of a head in texture space; those of the face are S x S.

    Attributes:
        texture: (S, S, 3) uint8 RGB of the face.
        visibility: (S, S) uint8: 255 where the photo shows it, 128 mirrored, 0 filled.
        displacement: (S, S) uint16, see `pipeline.details.bake`.
        normals: (S, S, 3) uint8, of the detailed face in the tangent space of the proxy.
        eyes: Textures of the left and the right eyeball.
        back: Texture of the back of the head.
    """

    texture: np.ndarray
    visibility: np.ndarray
    displacement: np.ndarray
    normals: np.ndarray
    eyes: tuple[np.ndarray, np.ndarray]
    back: np.ndarray


@dataclass(frozen=True, eq=False)
class Head:
    """A head found in a photo. Lengths in cm; camera space: x right, y up, z to the viewer.

    Attributes:
        kit: The head model that it is made of.
        identity: (100,) coefficients.
        view: Expression, pose and camera.
        width: Width of the photo in pixels.
        height: Height of the photo in pixels.
        quality: How well it explains the photo.
        maps: Its pictures.
        stages: Stage of the fit -> what was found by then ("mean", "points", "normals"); for evaluation.
    """

    kit: HeadKit
    identity: np.ndarray
    view: ViewState
    width: int
    height: int
    quality: ViewQuality
    maps: HeadMaps
    stages: dict[str, State] = field(default_factory=dict)

    @cached_property
    def vertices(self) -> np.ndarray:
        """(V, 3) float32 vertices of the proxy in head space; `to_camera` moves them to camera space."""
        return self.kit.vertices(self.identity, self.view.expression)

    @property
    def triangles(self) -> np.ndarray:
        """(T, 3) int32 vertex ids of the proxy."""
        return self.kit.proxy.triangles

    @property
    def uv(self) -> np.ndarray:
        """(N, 2) float32 texture coordinates, v up; `triangles_uv` has the corners' indices into them."""
        return self.kit.proxy.uv

    @property
    def triangles_uv(self) -> np.ndarray:
        """(T, 3) int32 indices into `uv`, in the order of `triangles`."""
        return self.kit.proxy.triangles_uv

    @cached_property
    def detailed_vertices(self) -> np.ndarray:
        """(W, 3) float32 vertices of the detailed head in head space; its topology is `kit.fine`."""
        grid = self.kit.grid
        smooth = grid.refine(self.vertices[:FACE_VERTICES])
        normals = normals_of_quads(smooth, grid.quads)
        height_cm = displacement_at(self.maps.displacement, self.kit.fine_uv) / 10
        face = (smooth + height_cm[:, None] * normals).astype(np.float32)
        return self.kit.finer(face, self.vertices)

    def to_camera(self, points_head: np.ndarray) -> np.ndarray:
        """Moves points (N, 3) from head space to the photo's camera space."""
        return self.view.to_camera(points_head)

    @property
    def weights(self) -> dict[str, float]:
        """Weights 0..1 of the 52 expressions by ARKit's names."""
        return arkit_weights(self.kit.model.expression_names, self.view.expression)

    @property
    def action_units(self) -> dict[str, float]:
        """Intensities 0..5 of FACS' action units."""
        return action_units(self.kit.model.expression_names, self.view.expression)
