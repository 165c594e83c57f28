"""Turns the text of a web prompt into what it says: keywords, weights, language, and whether it is usable."""
