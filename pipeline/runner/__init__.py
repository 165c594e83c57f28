"""Runs units of stages: skip, run, mark; verification of markers and repair."""
