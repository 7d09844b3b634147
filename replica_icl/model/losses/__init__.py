"""Losses, in symbols: one file each."""
