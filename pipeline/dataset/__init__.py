"""The finished dataset: its shards, how they are read, and the dataset card."""
