"""What every reconstruction needs of the head model, prepared once in a process."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from pipeline.details.grid import Grid, face_grid
from pipeline.fitting.head import FitHead, fit_head
from pipeline.geometry.arkit import arkit_name, arkit_targets
from pipeline.geometry.head_model import FACE_VERTICES, FaceModel, head_vertices, load_face_model
from pipeline.geometry.mesh import FACE, HEAD_PARTS, Topology, load_topology, subdivided, with_fine_part


@dataclass(frozen=True, eq=False)
class HeadKit:
    """The head model in all its forms.

    Attributes:
        model: Mean, identity and expressions of the whole head.
        head: The face as it is fitted.
        grid: The face as it is displaced.
        proxy: Topology of the head of one piece: face, back of the head, mouth, eyeballs.
        fine: Topology of the same with the face of the grid's finest level.
        fine_uv: (N, 2) float32: where each vertex of that face lies in the face's texture.
    """

    model: FaceModel
    head: FitHead
    grid: Grid
    proxy: Topology
    fine: Topology
    fine_uv: np.ndarray

    def vertices(self, identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Vertices (V, 3) float32 of a head in head space, cm, its eyeballs turned with the expression.

        Args:
            identity: (100,) coefficients.
            expression: (53,) weights.
        """
        coefficients = (
            torch.from_numpy(np.float32(identity))[None],
            torch.from_numpy(np.float32(expression))[None],
        )
        vertices = head_vertices(self.model, *coefficients)[0].numpy()
        targets = self.targets(identity)
        for name, weight in zip(self.model.expression_names, expression, strict=True):
            if name.startswith("eyeLook") and weight:
                balls = np.concatenate([side.numpy() for side in self.model.eyes])
                vertices[balls] += np.float32(weight) * targets[arkit_name(name)][balls]
        return vertices

    def targets(self, identity: np.ndarray) -> dict[str, np.ndarray]:
        """The 52 movements (V, 3) of a head under ARKit's names; see `arkit_targets`."""
        shape = torch.from_numpy(np.float32(identity))[None]
        neutral = head_vertices(self.model, shape, torch.zeros(1, len(self.model.expression_names)))
        return arkit_targets(self.model, neutral[0].numpy())

    def finer(self, face: np.ndarray, vertices: np.ndarray) -> np.ndarray:
        """Vertices of `fine`, from those of the finest face (N, 3) and those of the proxy (V, 3)."""
        return np.concatenate([face, vertices[FACE_VERTICES:]])


@lru_cache(maxsize=2)
def head_kit(path: str | Path | None = None, level: int = 2) -> HeadKit:
    """Loads the head model and prepares it (some seconds; cached in the process).

    Args:
        path: As for `load_face_model`.
        level: How often the face is divided.

    Raises:
        AssetsError: The model is not there or is not what it should be.
    """
    return make_kit(load_face_model(path), load_topology(path), level)


def make_kit(model: FaceModel, topology: Topology, level: int = 2) -> HeadKit:
    """Prepares a head model and its topology; see `head_kit`."""
    head = fit_head(model)
    grid = face_grid(head, level)
    fine = topology.only(FACE)
    for step in grid.steps:
        fine = subdivided(fine, step.quads)
    proxy = replace(topology.only(*HEAD_PARTS), vertex_count=len(model.neutral))
    fine_uv = np.zeros((fine.vertex_count, 2), np.float32)
    used = np.unique(fine.faces_uv)
    fine_uv[fine.uv_vertex[used]] = fine.uv[used]
    return HeadKit(model, head, grid, proxy, with_fine_part(proxy, fine, FACE_VERTICES), fine_uv)
