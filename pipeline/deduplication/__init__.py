"""Duplicates among pictures and prompts: near (images), semantic (embeddings) and fuzzy (prompts)."""
