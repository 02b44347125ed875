"""From a fitted head to its maps: texture, displacement, normals."""
