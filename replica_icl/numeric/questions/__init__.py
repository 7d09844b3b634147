"""What is asked of the theory: a module each; those that `solve` answers are objects of one protocol."""
