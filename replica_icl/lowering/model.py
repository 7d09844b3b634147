"""What a solver is given: all lowered theories of one forward pass, typed, each loaded when it is first used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from replica_icl.lowering.loading import derived, derived_prior, load

if TYPE_CHECKING:
    from replica_icl.lowered import (
        fresh_tasks,
        fresh_tasks_limit,
        fresh_tasks_next_order,
        given_tasks,
        gradient_flow,
        hessian_spectrum,
        marchenko_pastur,
        missing_onsager,
        prior_laplace,
        prior_ridge,
        prompt_fields,
        sample_spread,
        task_diversity,
    )


@dataclass(frozen=True, eq=False)
class Model:
    """The lowered theories of one forward pass. Every solver takes one and hands it on.

    Attributes:
        functions: of a theory by its name, as the class `Functions` of its generated module.
    """

    functions: Callable[[str], Any] = load

    @cached_property
    def fresh_tasks(self) -> type[fresh_tasks.Functions]:
        """Fresh tasks at finite D, N, P."""
        return self.functions("fresh_tasks")

    @cached_property
    def fresh_tasks_limit(self) -> type[fresh_tasks_limit.Functions]:
        """Fresh tasks in the thermodynamic limit."""
        return self.functions("fresh_tasks_limit")

    @cached_property
    def fresh_tasks_next_order(self) -> type[fresh_tasks_next_order.Functions]:
        """What the next order adds to fresh tasks at finite D, N, P."""
        return self.functions("fresh_tasks_next_order")

    @cached_property
    def task_diversity(self) -> type[task_diversity.Functions]:
        """K = kappa D tasks in the thermodynamic limit."""
        return self.functions("task_diversity")

    @cached_property
    def given_tasks(self) -> type[given_tasks.Functions]:
        """A given task matrix at finite D, N, P."""
        return self.functions("given_tasks")

    @cached_property
    def hessian_spectrum(self) -> type[hessian_spectrum.Functions]:
        """The Hessian's eigenvalues, fresh tasks."""
        return self.functions("hessian_spectrum")

    @cached_property
    def missing_onsager(self) -> type[missing_onsager.Functions]:
        """Moments of the couplings, for message passing without the Onsager reaction."""
        return self.functions("missing_onsager")

    @cached_property
    def prompt_fields(self) -> type[prompt_fields.Functions]:
        """Fresh tasks under any weight prior, the prompts' half."""
        return self.functions("prompt_fields")

    @cached_property
    def prior_laplace(self) -> type[prior_laplace.Functions]:
        """The weights' half under the Laplace prior."""
        return self.functions("prior_laplace")

    @cached_property
    def prior_ridge(self) -> type[prior_ridge.Functions]:
        """The weights' half under the ridge alone, fields kept."""
        return self.functions("prior_ridge")

    def prior(self, declared: Any) -> Any:
        """The weights' half under any prior: generated functions by its name, or those of a user's own, derived once.

        Args:
            declared: class of the prior (see `replica_icl.priors`).
        """
        return derived_prior(declared) if declared.states_itself() else self.functions(f"prior_{declared.name}")

    @cached_property
    def sample_spread(self) -> type[sample_spread.Functions]:
        """Covariances over samples, fresh tasks."""
        return self.functions("sample_spread")

    @cached_property
    def marchenko_pastur(self) -> type[marchenko_pastur.Functions]:
        """The Marchenko-Pastur law."""
        return self.functions("marchenko_pastur")

    @cached_property
    def gradient_flow(self) -> type[gradient_flow.Functions]:
        """Training by gradient flow, fresh tasks in the thermodynamic limit."""
        return self.functions("gradient_flow")


LINEAR_ATTENTION = Model()
"""The package's own model, from the generated files."""


def derive_model(attention: Any) -> Model:
    """The model of another forward pass, derived from it theory by theory when they are needed (seconds each).

    Args:
        attention: `model.attention.merged.Attention`.
    """
    return Model(partial(derived, attention=attention))
