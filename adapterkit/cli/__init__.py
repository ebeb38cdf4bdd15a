"""The command line: one file per verb. Nothing here imports torch before a verb runs."""

from adapterkit.cli.app import app, main

__all__ = ["app", "main"]
