"""How fast is every stage."""

DEFAULT_PARTS = ("stages", "baseline", "local", "ray")
SCALE_PARTS = ("plan", "resume", "overhead", "workers")
PARTS = (*DEFAULT_PARTS, "heads", "memory", "synth", "train", *SCALE_PARTS)
