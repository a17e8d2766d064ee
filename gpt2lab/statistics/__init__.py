"""Intervals, resampling, paired comparisons and multiple testing: pure functions on numpy arrays."""
