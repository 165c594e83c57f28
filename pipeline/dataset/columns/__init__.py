"""Columns beside the shards: which there are, how their arrays are computed and written."""
