# Everything a fresh machine needs is Python 3.11 or newer, make and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= results
QUICK ?=

.PHONY: demo test test-lowest lint figures report check-long lower benchmarks clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

demo: $(VENV)/.installed  ## Fig. 4(b) of Li et al.: theory, simulation and published losses
	$(BIN)/python figures/li_fig4b.py --out $(OUT)

test: lint  ## lint, types and the whole test suite (below 10 minutes on two cores)
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-lowest:  ## the test suite at the lower bounds of the dependencies, in a virtual environment of its own
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --constraint tests/lowest.txt --editable '.[test]' \
	  'pyparsing<3.2'  # of matplotlib 3.9's time: it uses names of which later ones warn
	$(VENV)-lowest/bin/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

figures: $(VENV)/.installed  ## every figure of the papers; a second call continues
	$(BIN)/replica-icl figure all $(QUICK) --out $(OUT)

report: $(VENV)/.installed  ## every published number, with theory, simulation and the figures that are there
	$(BIN)/replica-icl published --out $(OUT)

check-long: $(VENV)/.installed  ## minutes of simulation: theory against simulation at scale
	$(BIN)/python -m pytest -m long

lower: $(VENV)/.installed  ## write the lowered functions again after a change of the derivation
	$(BIN)/python -m replica_icl.lowering

benchmarks: $(VENV)/.installed
	for script in benchmarks/*.py; do $(BIN)/python $$script; done

clean:
	rm -rf $(VENV) $(VENV)-lowest $(OUT) .pytest_cache .mypy_cache .ruff_cache
