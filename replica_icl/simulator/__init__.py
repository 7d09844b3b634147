"""The simulator of finite linear-attention transformers: exact, torch-free, and blind to the theory.

It reads in one direction, one module per arrow:

    prompts -> attention                                   a transformer, token by token
    prompts -> features -> hamiltonian (J, h, lambda)      the same energy as a spin glass with real spins
    sufficient -> features                                 the same law of features without the tokens
               features -> ground_state -> gibbs           its exact ground state and Boltzmann measure
                           ground_state -> observables     scores of the weights, exact or by fresh prompts
    algorithms, matrix_free, krylov                        the ground state without its matrix, and when to do so
    langevin                                               Boltzmann samples of any other energy
    laws                                                   other laws of tokens and tasks (universality)
    streams, streaming                                     random streams; prompts by their seeds
    budget, realisation, ensemble, workers                 many disorder realisations, reproducibly

It is the package's independent witness and so imports nothing of the theory: of the package only
`setting`, `errors` and the version. Conventions (W: first index context side, second index query side;
features divided by N) are those of Li et al., arXiv:2408.02288.
"""
