"""Trained models, installed as package data; `kspecsr.load` finds them by name."""
