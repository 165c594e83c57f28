"""The commands sur-train, sur-generate and sur-eval."""
