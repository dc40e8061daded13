"""Training examples: fresh from the simulator, or from records. NumPy and SciPy only."""
