"""Verification of a dataset: every promise of the format, file by file."""
