"""Heads as files of other programs: GLB, OBJ, PLY and what belongs to them.

All are functions from arrays to bytes. Vertices come in centimetres, in the space the file is to have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pipeline.geometry.mesh import Topology

UNITS = {"cm": 1.0, "m": 0.01, "mm": 10.0}
"""Units of length of a file: how many of them a centimetre is."""


@dataclass(frozen=True)
class Material:
    """How a part looks.

    Attributes:
        colour: Red, green, blue in 0..1, linear light; counts where there is no texture.
        texture: A JPEG or PNG in the part's texture space, or None.
        normal_map: A PNG in the tangent space of `mesh.tangents`, green up, or None.
        roughness: 0..1.
    """

    colour: tuple[float, float, float] = (0.6, 0.45, 0.38)
    texture: bytes | None = None
    normal_map: bytes | None = None
    roughness: float = 0.55


TEETH_MATERIAL = Material(colour=(0.75, 0.7, 0.6), roughness=0.25)
GUMS_MATERIAL = Material(colour=(0.45, 0.13, 0.12), roughness=0.35)


@dataclass(frozen=True, eq=False)
class Mesh:
    """What a file shows.

    Attributes:
        vertices: (V, 3) centimetres.
        topology: Its faces and texture coordinates.
        materials: Part -> its look. Other parts are left out.
        targets: Name of a morph target -> movement of the vertices (V, 3) at weight 1.
        weights: Name -> weight at which `vertices` are; those that are not named have 0.
    """

    vertices: np.ndarray
    topology: Topology
    materials: Mapping[str, Material]
    targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def drawn(self) -> Topology:
        """Faces of the parts that have a material."""
        return self.topology.only(*self.materials)

    def moved(self, rotation: np.ndarray, translation: np.ndarray) -> Mesh:
        """The mesh in another space: vertices become rotation (3, 3) x vertex + translation (3,)."""
        targets = {name: offsets @ rotation.T for name, offsets in self.targets.items()}
        return Mesh(
            self.vertices @ rotation.T + translation, self.topology, self.materials, targets, self.weights
        )
