"""Assets that Facet uses but does not ship: the face model that training data is rendered from."""

from pipeline.assets.locate import assets_folder, find_ict_facekit

__all__ = ["assets_folder", "find_ict_facekit"]
