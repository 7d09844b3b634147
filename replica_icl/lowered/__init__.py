"""Generated files only: the lowered functions of each theory, written by `replica_icl.lowering` (`make lower`)."""
