"""Super-resolving many files: which, at which redshift, read, written, resumed."""
