"""Turns answers of captioner and LLM into sentences whose facts can be read, swapped and joined."""
