"""Figures of the evaluation, one to a file."""
