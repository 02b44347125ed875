"""The page to look at after a run."""
