"""One symbol, one meaning: what the letters of a chapter stand for.

The letters of all chapters are declared here once, those of one chapter alone by that chapter, and none of them twice.
`table` lists the ones that a chapter uses; `unexplained` finds letters in its formulas that nobody has declared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from replica_icl.narration.derivation import Claim, Derivation, Equation
from replica_icl.narration.printing import latex, plain
from replica_icl.parameters import PARAMETERS

COMMON: Mapping[str, str] = {
    **{p.symbol: p.meaning for p in PARAMETERS.values() if p.symbol},
    "W": "merged weights of the attention, (D + 1) x (D + 1), context side first; W_DD its block on tokens",
    r"\tilde x": "query token of a prompt",
    r"\tilde y": "target: label of the query",
    r"\hat y": "prediction of the target",
    "x_t": "token t of a prompt's context",
    "y_t": "label of token t",
    "y": "labels of a context, as a vector",
    "t": "index of a token, 1 .. N",
    "w": "task vector",
    "Z": "partition function; with a prompt, its matrix of tokens and labels",
    r"\tilde c": "context vector of a prompt, (c, l)",
    "c": r"its part on tokens, $\frac{1}{N} \sum_t y_t x_t$",
    r"\ell": r"its last entry, $|y|^2 / N$",
    "E": "energy, the loss with its ridge",
    "E_0": "energy of the ground state",
    r"\mu": "index of a prompt, 1 .. P",
    "f": r"features of a prompt, $\tilde c \otimes \tilde x$",
    "n": "number of replicas",
    r"\gamma": "index of a replica, 1 .. n",
    r"r_\gamma": "residual of a replica on a prompt, target minus prediction",
    "b": r"$\beta / P$",
    "T": r"$|\tilde x|^2 / D$",
    r"\omega": "$|w|^2 / D$",
    "g": r"$c \cdot w / \sqrt{D}$",
    "a": "$|c|^2$",
    "C": "covariance of the residuals of replicas on one prompt, given its scalars",
    "Q": r"overlaps of replicas on the token block, $\mathrm{tr}\, W_{DD} W_{DD}^T / D$",
    "U": "overlaps of replicas on the last row",
    "m": r"$\mathrm{tr}\, W_{DD} / D$",
    "q": r"$|W_{DD}|^2 / D$ of the mean weights, off the diagonal of $Q$",
    "V": "thermal variance on the token block, diagonal minus off-diagonal of $Q$",
    "u": "squared norm of the last row of the mean weights, off the diagonal of $U$",
    "V_u": "thermal variance on the last row",
    "R": "squared residual of the mean weights on a prompt, given its scalars",
    r"\chi": r"$T \chi$ is the thermal variance of a residual",
    "s": r"shrinkage of residuals by training, $1 / (1 + b T \chi)$",
    r"\Phi": r"free entropy, the average of $\log Z$ over samples of prompts",
    "X": r"$I - X$ is the stability matrix over the blocks of weights",
    "I": "identity matrix",
    "k": r"effective ridge, $\lambda / s$",
    "v": r"$\tilde\beta V$, response of the ground state to a field",
    "e": "squared error of the ground state on new prompts in the limit",
    r"e_{\mathrm{ICL}}": "squared error on prompts with new tasks, ground state",
    r"e_{\mathrm{IDG}}": "squared error on new prompts of the training tasks, ground state",
    r"e_{\mathrm{train}}": "squared residual on the training prompts, ground state",
    r"e_{\mathrm{Gibbs}}": "squared error of a Gibbs sample on prompts with new tasks",
    r"e_{\mathrm{train, Gibbs}}": "squared training residual of a Gibbs sample",
}
"""LaTeX -> meaning, of the symbols that several chapters use."""

_OPERATORS = frozenset(
    re.findall(
        r"\w+",
        """frac tfrac dfrac left right Bigl Bigr bigl bigr langle rangle sum prod int oint log exp det lim sqrt partial
    cdot times to infty le ge ne neq ll gg sim pm propto approx otimes circ dots ldots cdots prime text mathrm mathbf
    mathcal operatorname begin end quad qquad infty max min extr sin cos in equiv big Big star pi lbrace rbrace mid
    displaystyle limits top not forall tag mapsto Gamma dagger ast perp oplus parallel
    d O""",
    )
)
"""Commands that are no symbols, the number pi, the function Gamma, differentials and orders."""

_WORDS = re.compile(r"\\(?:text|mathrm|mathbf|operatorname|begin|end|tag)\s*\{[^{}]*\}")
_TRANSPOSED = re.compile(r"\^(?:T(?![A-Za-z])|\{T\})")
_SUBSCRIPT = r"_(?:\{(?:[^{}]|\{[^{}]*\})*\}|\\[A-Za-z]+|\w)"
_LETTER = re.compile(
    r"(?P<base>\\(?:tilde|hat|bar)\s*(?:\{[^{}]*\}|\\[A-Za-z]+|\w)|\\[A-Za-z]+|[A-Za-z])(?P<rest>(?:"
    + _SUBSCRIPT
    + r")?)"
)


def declared(derivation: Derivation) -> dict[str, str]:
    """LaTeX -> meaning for a chapter.

    Raises:
        ValueError: for a symbol of the chapter that is one of all chapters already.
    """
    own = {_canonical(symbol) for symbol in derivation.symbols}
    twice = own & {_canonical(symbol) for symbol in COMMON}
    if twice:
        raise ValueError(f"{derivation.name} gives a second meaning to {', '.join(sorted(twice))}")
    return {**COMMON, **derivation.symbols}


def table(derivation: Derivation) -> list[tuple[str, str]]:
    """The symbols that a chapter uses, LaTeX and meaning, in alphabetic order of their names."""
    meanings = declared(derivation)
    used, _ = _letters(derivation, meanings)
    found = [(symbol, meaning) for symbol, meaning in meanings.items() if _canonical(symbol) in used]
    return sorted(found, key=lambda entry: (plain(entry[0]).lower(), plain(entry[0])))


def unexplained(derivation: Derivation) -> set[str]:
    """Letters in a chapter's formulas that nobody has declared."""
    return _letters(derivation, declared(derivation))[1]


def _canonical(symbol: str) -> str:
    return plain(symbol).replace(" ", "")


def formulas(derivation: Derivation) -> Iterator[str]:
    """The mathematics of a chapter as LaTeX, its prose left out."""
    for step in derivation.steps:
        prose = [step.title]
        for part in step.parts:
            if isinstance(part, Equation):
                yield part.left
                yield part.right if isinstance(part.right, str) else latex(part.right)
            elif isinstance(part, Claim):
                prose += [part.statement, part.how.words]
            else:
                prose.append(part)
        for text in prose:
            yield from " ".join(text.split()).split("$")[1::2]


def _letters(derivation: Derivation, meanings: Mapping[str, str]) -> tuple[set[str], set[str]]:
    """Names of the declared symbols that are used, and the letters that are not declared.

    A symbol that is declared with an index, as x_t, is meant with any index; a whole name, as V_u, is itself alone.
    """
    known = {_canonical(symbol) for symbol in meanings}
    indices = {_canonical(symbol) for symbol, meaning in meanings.items() if meaning.startswith("index")}
    indexed = {symbol.rpartition("_")[0]: symbol for symbol in known if symbol.rpartition("_")[2] in indices}
    used: set[str] = set()
    unknown: set[str] = set()

    def visit(formula: str) -> None:
        for found in _LETTER.finditer(_WORDS.sub(" ", formula)):
            base, subscript = found["base"], found["rest"]
            whole, alone = _canonical(base + subscript), _canonical(base)
            if subscript and whole in known:
                used.add(whole)
                continue
            if subscript and alone in indexed:
                used.add(indexed[alone])
            elif base.lstrip("\\") not in _OPERATORS or base in known:
                (used if alone in known else unknown).add(alone)
            if subscript and not re.fullmatch(r"_\{[A-Za-z]{3,}\}", subscript):  # a word is no letter
                visit(subscript[1:].strip("{}"))

    for formula in formulas(derivation):
        formula = _TRANSPOSED.sub(" ", formula)
        visit(_with_words_in_names(formula, known))
    return used, unknown


def _with_words_in_names(formula: str, known: set[str]) -> str:
    """Words in a subscript belong to the name, as in e_{\\mathrm{ICL}}: kept where that name is declared."""
    pattern = re.compile(r"(\\?[A-Za-z]+)_\{?\\mathrm\{([^{}]*)\}\}?")

    def kept(found: re.Match[str]) -> str:
        return (
            f"{found[1]}_{{{found[2]}}}" if f"{_canonical(found[1])}_{found[2].replace(' ', '')}" in known else found[0]
        )

    return pattern.sub(kept, formula)
