"""Tasks or domains that are learned one after another, and what is forgotten on the way."""
