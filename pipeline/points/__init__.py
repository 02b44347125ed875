"""Where every point of a face is: 500 surface points and 68 landmarks, each with its uncertainty."""
