"""What is asked of a solution."""
