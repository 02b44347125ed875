"""The network that finds the points of a face: what it learns from, training, export, scores."""
