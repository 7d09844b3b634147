"""Numbers from lowered expressions: solving, refining and reading observables off. Nothing here imports SymPy."""
