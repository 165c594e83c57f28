"""The demo world: emoji scenes of known truth, the gallery that serves them, and small models trained on them."""
