"""Shards and columns as batches, in an order that depends on seed and step alone."""
