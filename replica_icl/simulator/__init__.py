"""The simulator of finite linear-attention transformers: exact, torch-free, and blind to the theory."""
