"""Hyper-parameter search over the training stages."""
