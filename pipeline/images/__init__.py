"""Photos in: where they are, their bytes, their upright pixels."""
