"""How fast is every stage, and the engine at sizes that a machine does not have: `python -m benchmarks`."""
