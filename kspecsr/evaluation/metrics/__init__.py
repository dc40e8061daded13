"""Metric groups: each measures galaxies one by one, compactly, and makes figures with intervals of all."""
