"""Turns many pictures or prompts into the pairs of them that are the same."""
