"""Three identical redshift networks on prism, super-resolved and grating spectra (the paper's Fig. 9)."""
