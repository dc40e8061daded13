"""Figures of results and of training."""
