"""The main job: a whole bucket of photos to records of normals."""
