"""How fast is every stage."""
