"""The commands of the command line: how each is asked for (parser), and what it does (run)."""
