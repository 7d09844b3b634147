"""Solvers of the theory under any weight prior."""
