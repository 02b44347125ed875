"""Cameras, meshes and the head model: shape without pictures."""
