"""From the replicated partition function to the saddle-point equations, in SymPy."""
