"""What is mounted: records by name, seats in the bank, and which adapters are in memory."""
