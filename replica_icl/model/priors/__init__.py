"""Weight priors, in symbols: one file each."""
