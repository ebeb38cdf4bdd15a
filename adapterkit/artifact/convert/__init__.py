"""Other projects' adapters, turned into artifacts with the same answers."""
