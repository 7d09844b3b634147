"""Message passing on one instance: algorithms, blind to the theory, which gives a prior's denoiser from outside."""
