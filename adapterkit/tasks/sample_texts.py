"""A few texts of ours, for rows that stand in where nobody gave any."""

SAMPLE_TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "My card was lost on the way to London, can you send a new one?",
    "It was a bright cold day in April, and the clocks were striking thirteen.",
    "Ada Lovelace wrote the first program in 1843.",
)
