"""Order, retries and parallelism of a build: the one room that knows Prefect, and the commands people type."""
