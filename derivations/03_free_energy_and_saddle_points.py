# %% [markdown]
# # Free energy and saddle points
#
# The replicated action at replica-symmetric overlaps is a function of n. Its derivative at n = 0 is the
# quenched log Z; its stationarity fixes the order parameters, and its derivatives with respect to fields are
# the observables. Nothing is typed in: every equation below is a derivative of one expression.

# %%
import sympy as sp

from replica_icl.narration.common import agree, named
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import concentrate
from replica_icl.symbolic.stability import replicon_matrix
from replica_icl.theory.fresh_tasks import derive_fresh_tasks

theory = derive_fresh_tasks()
Phi = theory.free_entropy

# %% [markdown]
# ## n -> 0
#
# The entropic part holds the volume of the D^2 weights on tokens (order parameters m, q, V) and of the D
# weights of the last row (u, V_u). The energetic part is an average over the prompt's scalars. Below, R is
# the squared residual of the mean weights, T chi its thermal variance and s = 1 / (1 + b T chi).

# %%
print("entropic: ", theory.entropic.free_entropy())
print("energetic:", named(theory, theory.energetic.free_entropy()))
print("R =", theory.energetic.covariance.off_diagonal)
print("T chi =", theory.energetic.fluctuation)

# %% [markdown]
# ## Saddle-point equations

# %%
equations = theory.saddle.equations
for parameter, equation in equations.items():
    print(f"d Phi / d {parameter} =", named(theory, equation))

# %% [markdown]
# ## Without data
#
# At P = 0 the weights know only the ridge. The saddle point is solved in closed form, and log Z is the volume
# of a Gaussian: the check of every constant that the entropic part carries.

# %%
(resting,) = sp.solve([e.subs(s.P, 0) for e in equations.values()], list(equations), dict=True)
print("saddle at P = 0:", resting)
volume = (s.D**2 + s.D) / 2 * sp.log(2 * sp.pi / (s.beta * s.ridge))
print("log Z =", volume)

# %% [markdown]
# ## Observables
#
# A prompt that was not trained on is a source field; derivatives in beta and in beta lambda_0 give the
# training error and the norm. Gibbs errors belong to one sample of weights, the others to their mean, which
# is the ground state.

# %%
for name, expression in theory.observables.items():
    print(f"{name:12s}= {named(theory, expression)}")

# %% [markdown]
# ## What temperature changes
#
# Scale beta by f and V, V_u by 1/f. The equations for m, q and u only get a factor f, and those for V and
# V_u, after subtraction of the former, a factor f^2. So m, q, u and every error of the mean weights are the
# same at any temperature, and V is proportional to 1/beta.

# %%
f = sp.Symbol("f", positive=True)
colder = {s.beta: f * s.beta, s.inverse_scale: f * s.inverse_scale, s.V: s.V / f, s.V_u: s.V_u / f}


def power_of_f(equation):
    """p with equation(colder) = f^p equation, or None."""
    scaled = equation.subs(colder, simultaneous=True)
    return next((p for p in (0, 1, 2) if agree(scaled, f**p * equation)), None)


powers = {x.name: power_of_f(equations[x]) for x in (s.m, s.q, s.u)}
powers |= {"V - q": power_of_f(equations[s.V] - equations[s.q]), "V": power_of_f(equations[s.V])}
print("powers of f:", powers)

# %% [markdown]
# ## Stability
#
# Fluctuations of the overlaps that keep every row sum are the dangerous ones. The Hessian of the action along
# them, over the two blocks of weights and in units of its entropic part:

# %%
replicon = theory.replicon
print("the first entry at one prompt law's point:", sp.factor(concentrate(replicon[0, 0], {x: x for x in s.SCALARS})))

# %% [markdown]
# ## Checks

# %%
n = s.replicas
action = theory.entropic.replica_symmetric() + theory.energetic.replica_symmetric()
tiny = sp.Float("1e-20", 60)
assert agree(action.subs(n, 0), sp.S.Zero)
assert agree(action.subs(n, tiny) / tiny, Phi, tolerance="1e-13")
assert agree(Phi.subs(s.P, 0).subs(resting), volume)
assert powers == {"m": 1, "q": 1, "u": 1, "V - q": 2, "V": None}
assert all(agree(x, y) for x, y in zip(replicon_matrix(theory.entropic, theory.energetic, 5), replicon, strict=True))

# The derivative in beta at fixed beta lambda_0 by a finite difference of the free entropy, not by differentiation.
field, step = sp.Symbol("h", positive=True), sp.Float("1e-15", 60)
at_field = Phi.subs(s.inverse_scale, s.beta / s.P).subs(s.ridge, field / s.beta)
slope = (at_field.subs(s.beta, s.beta + step) - at_field.subs(s.beta, s.beta - step)) / (2 * step)
train_gibbs = theory.observables["train_gibbs"].subs(s.inverse_scale, s.beta / s.P)
assert agree(slope, -train_gibbs / 2, tolerance="1e-20")
assert not agree(slope, -train_gibbs, tolerance="1e-20")

# And the stationarity in V by a finite difference.
slope = (Phi.subs(s.V, s.V + step) - Phi.subs(s.V, s.V - step)) / (2 * step)
assert agree(slope, equations[s.V], tolerance="1e-20")
print("all checks hold")
