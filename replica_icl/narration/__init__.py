"""The derivations, told: chains of steps with equations and claims that can fail."""
