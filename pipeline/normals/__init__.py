"""Normals of a face crop: networks, weights, inference, encoding."""
