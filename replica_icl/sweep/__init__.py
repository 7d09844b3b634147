"""Sweeps: a grid of parameters -> cells of theory and simulation -> one labelled dataset."""
