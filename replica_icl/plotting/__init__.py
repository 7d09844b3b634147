"""Drawing: one look for all figures, colour-blind-safe, the same symbol and colour for the same thing everywhere."""
