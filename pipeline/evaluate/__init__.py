"""How good are the normals: metrics and labelled data."""
