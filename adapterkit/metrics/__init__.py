"""Metrics: scores of answers, each with its interval. No torch is imported here."""
