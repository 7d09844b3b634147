"""The simulator of finite linear-attention transformers: exact, torch-free, and blind to the theory.

It reads in one direction, one module per arrow:

    prompts -> attention                                   a transformer, token by token
    prompts -> features -> hamiltonian (J, h, lambda)      the same energy as a spin glass with real spins
               features -> ground_state -> gibbs           its exact ground state and Boltzmann measure
                           ground_state -> observables     scores of the weights, exact or by fresh prompts
    streams, realisation, ensemble (memory, workers)       many disorder realisations, reproducibly

It is the package's independent witness and so imports nothing of the theory: of the package only
`setting`, `errors` and the version. Conventions (W: first index context side, second index query side;
features divided by N) are those of Li et al., arXiv:2408.02288.
"""
