"""The SUR-adapter (arXiv 2305.05189): adapter, losses, shard loader, trainer and sampler.

Import from the modules; this file stays empty of imports so that ``--help`` need not load torch.
"""
