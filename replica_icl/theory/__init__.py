"""The theories: one file each, which states a law and its order parameters and hands them to the replica machinery.

Each has `programs(attention)`: the functions that are lowered of it, for a forward pass or, without one, for linear
attention. Modules are imported by whoever wants one of them, and by nobody else.
"""

THEORIES = (
    "task_diversity",
    "fresh_tasks",
    "fresh_tasks_limit",
    "fresh_tasks_next_order",
    "given_tasks",
    "hessian_spectrum",
    "missing_onsager",
    "prior_laplace",
    "prior_ridge",
    "prompt_fields",
    "sample_spread",
    "marchenko_pastur",
    "gradient_flow",
)
"""Names of the modules with programs."""
