"""Where theory, simulation and published numbers meet."""
