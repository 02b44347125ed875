"""Where every point of a face is: 500 surface points and 68 landmarks, each with its uncertainty."""

SIZE = 128
"""Side in pixels of the crops that the network takes."""

DENSE = 500
"""Number of surface points, `pipeline.geometry.head_regions.dense_vertices`."""

COUNT = DENSE + 68
"""Number of points in all: the landmarks of iBUG 300-W follow the surface points."""
