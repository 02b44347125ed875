"""Faces in a photo: detection, 68 landmarks, the crop."""
