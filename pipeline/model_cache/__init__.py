"""Outputs of models that a build keeps, and models that look there first."""
