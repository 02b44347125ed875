"""What the work of Facet is: pure functions first, Ray only wraps them.

from pipeline import estimate_normals, reconstruct_head
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.details.head import Head as Head
    from pipeline.details.reconstruct import reconstruct_head as reconstruct_head
    from pipeline.normals.estimate import FaceNormals as FaceNormals
    from pipeline.normals.estimate import estimate_normals as estimate_normals

_MODULES = {
    "FaceNormals": "pipeline.normals.estimate",
    "estimate_normals": "pipeline.normals.estimate",
    "Head": "pipeline.details.head",
    "reconstruct_head": "pipeline.details.reconstruct",
}

__all__ = ["FaceNormals", "Head", "estimate_normals", "reconstruct_head"]


def __getattr__(name: str) -> Any:
    # On first use: `facet --help` and Ray's light workers must not wait for torch.
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
