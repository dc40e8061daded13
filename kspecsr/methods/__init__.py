"""Classical methods: the direct line fit at a known redshift, interpolation, deconvolutions."""
