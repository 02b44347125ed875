"""Training of the cross-modal networks."""
