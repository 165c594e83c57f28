"""The stages of a build, in the order data meets them: plain functions over one partition."""
