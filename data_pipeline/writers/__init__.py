"""Writers: JADES x1d files and catalogues (for the simulator), and the project's own FITS spectra."""
