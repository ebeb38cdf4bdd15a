"""Folders of sentence-transformers and of SetFit, both ways."""
