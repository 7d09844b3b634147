"""The one bridge from SymPy to numbers.

`source`: a `Program`, i.e. expressions with names, becomes the text of a plain Python function and of the record that
it returns. `writing`: what `python -m replica_icl.lowering` does, the text of every theory to `replica_icl/lowered/`.
`loading`: the lowered functions of a theory, from there or, where the file is stale, derived again. `model`: all
lowered theories of one forward pass. The last two start without SymPy; they are all that numeric code imports.
"""
