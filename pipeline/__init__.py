"""What the work of Facet is: pure functions first, Ray only wraps them.

from pipeline import FaceFinder, NormalsEstimator, estimate_normals, read_records, reconstruct_head
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.details.head import Head as Head
    from pipeline.details.reconstruct import reconstruct_head as reconstruct_head
    from pipeline.faces.detect import FaceFinder as FaceFinder
    from pipeline.normals.estimate import FaceNormals as FaceNormals
    from pipeline.normals.estimate import estimate_normals as estimate_normals
    from pipeline.normals.inference import NormalsEstimator as NormalsEstimator
    from pipeline.recipes.read_records import read_records as read_records

_MODULES = {
    "FaceFinder": "pipeline.faces.detect",
    "FaceNormals": "pipeline.normals.estimate",
    "Head": "pipeline.details.head",
    "NormalsEstimator": "pipeline.normals.inference",
    "estimate_normals": "pipeline.normals.estimate",
    "read_records": "pipeline.recipes.read_records",
    "reconstruct_head": "pipeline.details.reconstruct",
}

__all__ = [  # noqa: PLE0604 - names of the table above
    *_MODULES,
]


def __getattr__(name: str) -> Any:
    # On first use: `facet --help` and Ray's light workers must not wait for torch.
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
