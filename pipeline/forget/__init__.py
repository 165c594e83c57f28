"""Removal of records from a build for good: rows, fetched bytes, shards, columns, and what keeps them out later."""
