"""The Prefect flow of a build (order, retries, parallelism), and the command line in ``cli``."""
