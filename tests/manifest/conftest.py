"""A small artifact, made as its own tests make it."""

from tests.artifact.conftest import saved, saved_once

__all__ = ["saved", "saved_once"]
