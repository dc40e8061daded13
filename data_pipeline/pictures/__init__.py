"""Pictures of spectra, pairs, stitching and augmentation; each function returns a matplotlib figure."""
