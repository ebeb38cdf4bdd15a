"""From the rows of one call to their answers: encoded, batched, shared, generated."""
