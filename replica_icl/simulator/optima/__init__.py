"""Exact minimisers of energies with other weight priors than the ridge: one file each."""
