"""Artifacts as facts: the manifest, the folder, strict JSON and atomic writes. No torch is imported here."""
