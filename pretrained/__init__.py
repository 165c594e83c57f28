"""Pretrained models that dataset and trainer read alike: weights whole and never unpickled, in one place."""
