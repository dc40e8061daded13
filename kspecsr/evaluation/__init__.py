"""How good a model is, on galaxies that it never saw: measurements, intervals, figures, gate and report."""
