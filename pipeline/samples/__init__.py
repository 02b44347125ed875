"""Labelled crops: what training and evaluation read."""
