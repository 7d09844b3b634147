"""Entropic and energetic parts: explicit replicas, symbolic n, and n -> 0."""

import pytest
import sympy as sp

from replica_icl.model.losses.squared import SquaredLoss
from replica_icl.model.priors.ridge import GaussianPrior
from replica_icl.narration.checks import agree
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.action import WeightBlock, shell_entropy
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric

a, q, V, m = s.context_norm, s.q, s.V, s.m
prior = GaussianPrior((WeightBlock("weights", s.D**2, s.D, ReplicaSymmetric(q + V, q), m),))
prompts = SquaredLoss(ReplicaSymmetric(a * (q + V) + s.noise, a * q + s.noise))


@pytest.mark.parametrize("part", [prior, prompts], ids=["entropic", "energetic"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_explicit_replicas_agree_with_symbolic_n(part: GaussianPrior | SquaredLoss, k: int) -> None:
    assert agree(part.explicit(k), part.replica_symmetric().subs(s.replicas, k), points=2)


@pytest.mark.parametrize("part", [prior, prompts], ids=["entropic", "energetic"])
def test_free_entropy_is_the_slope_at_zero_replicas(part: GaussianPrior | SquaredLoss) -> None:
    tiny = sp.Float("1e-20", 60)
    action = part.replica_symmetric()
    assert agree(action.subs(s.replicas, 0), sp.S.Zero)
    assert agree(action.subs(s.replicas, tiny) / tiny, part.free_entropy(), tolerance="1e-13")


def test_shell_entropy_is_the_leading_volume_of_a_sphere() -> None:
    """Surface of a sphere in n dimensions: 2 pi^(n/2) r^(n-1) / Gamma(n/2); per dimension as n -> infinity."""
    count, gram = sp.Integer(10**4), sp.Integer(3 * 10**4)
    exact = count / 2 * sp.log(sp.pi) + (count - 1) / 2 * sp.log(gram) - sp.loggamma(count / 2)
    assert abs(sp.N((shell_entropy(count, gram) - exact) / count)) < 1e-3


def test_one_replica_has_the_gaussian_average_of_its_residual() -> None:
    """< exp(-b r^2 / 2) > by integration, at one value of the scalars."""
    r, C, b = sp.Symbol("r", real=True), sp.Rational(3, 2), sp.Rational(1, 4)
    density = sp.exp(-(r**2) / (2 * C)) / sp.sqrt(2 * sp.pi * C)
    integral = sp.integrate(sp.exp(-b * r**2 / 2) * density, (r, -sp.oo, sp.oo))
    loss = SquaredLoss(ReplicaSymmetric(a, a / 2), prompts=sp.S.One, inverse_scale=b)
    (average,) = loss.explicit(1).atoms(Average)
    assert sp.simplify(average.integrand.subs(a, C) - integral) == 0


def test_sources_are_the_covariance_itself() -> None:
    source = prompts.source()
    assert sp.expand(source.diagonal - prompts.covariance.diagonal) == 0
    assert sp.expand(source.off_diagonal - prompts.covariance.off_diagonal) == 0


def test_trained_residuals_shrink_by_s_each() -> None:
    tilted, shrinkage = prompts.tilted_residuals(), prompts.shrinkage
    R, fluctuation = prompts.covariance.off_diagonal, prompts.fluctuation
    assert sp.simplify(tilted.off_diagonal - R * shrinkage**2) == 0
    assert sp.simplify(tilted.diagonal - R * shrinkage**2 - fluctuation * shrinkage) == 0


def test_tilted_residuals_are_the_response_to_the_inverse_temperature() -> None:
    """d(free entropy)/db = -(1/2) < r^2 > under the Boltzmann weight of one Gibbs sample."""
    slope = prompts.free_entropy().diff(s.inverse_scale)
    own = prompts.prompts * Average(prompts.tilted_residuals().diagonal, s.SCALARS)
    assert agree(slope, -own / 2)


def test_common_scale_of_the_dressed_covariance_is_a_change_of_units() -> None:
    """(c I + b' C)/c at b' = b c is I + b C."""
    c = sp.Symbol("c", positive=True)
    scaled = SquaredLoss(prompts.covariance, inverse_scale=s.inverse_scale * c, identity=c)
    assert agree(scaled.free_entropy(), prompts.free_entropy())
    assert agree(scaled.explicit(2), prompts.explicit(2))
    assert sp.simplify(scaled.tilted_residuals().diagonal - prompts.tilted_residuals().diagonal) == 0


def test_volume_constant_belongs_to_the_block_sizes_alone() -> None:
    assert prior.constant().free_symbols == {s.D}
