"""What the work of Facet is: pure functions first, Ray only wraps them.

from pipeline import estimate_normals
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.normals.estimate import FaceNormals as FaceNormals
    from pipeline.normals.estimate import estimate_normals as estimate_normals

__all__ = ["FaceNormals", "estimate_normals"]


def __getattr__(name: str) -> Any:
    # On first use: `facet --help` and Ray's light workers must not wait for torch.
    if name in __all__:
        from pipeline.normals import estimate

        return getattr(estimate, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
