"""The host: one backbone in memory that answers with many mounted adapters, each row with its own."""
