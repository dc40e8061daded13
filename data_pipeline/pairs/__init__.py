"""From the files of a galaxy to an aligned pair of spectra (paper sections 3.1 and 3.2)."""
