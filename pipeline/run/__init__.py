"""The batch engine: a whole bucket of photos to records, by any recipe."""
