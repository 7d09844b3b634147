"""Quadrature of the prompt law."""
