"""Selection from scores: thresholds, their calibration, comparison of selections."""
