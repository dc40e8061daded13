"""Public archives of NIRSpec spectra: what they hold, and a polite, verified, resumable way to fetch it."""
