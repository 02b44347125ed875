"""Who carries a run out: this machine, or a Ray cluster."""
