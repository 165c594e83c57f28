"""The format of shards and columns as code, used by whoever writes, verifies, repairs, reports or trains."""
