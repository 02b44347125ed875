"""Labelled faces rendered from the ICT-FaceKit model."""
