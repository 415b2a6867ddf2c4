# make segment    a CT in, a segmentation out        make train   a first model, trained on phantoms
# make test       all checks and tests               make help    the rest
# Each makes the environment (.venv) that it needs.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: segment train test lint format benchmark clean distclean help FORCE

RUN := .venv/bin/python
STAMP := .venv/.installed
LOCK := requirements-dev.lock
SAMPLE := build/sample/phantom.nii.gz
QUICK := AGTraining/experiments/phantom_quick.yaml

# What belongs to another environment must not reach this one.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PIP_USER PIP_TARGET PIP_PREFIX

# The shell takes these from its environment, letter by letter: blanks, quotes and dollars in paths are safe.
override CT := $(value CT)
override OUT := $(value OUT)
override CONFIG := $(value CONFIG)
override OPTIONS := $(value OPTIONS)
override PYTHON := $(value PYTHON)
export CT OUT CONFIG OPTIONS PYTHON

# Results of a user's scan are replaced only on OPTIONS=--overwrite; those of the sample always.
segment: REPLACE := $(if $(value CT),,--overwrite)
segment: $(STAMP) $(if $(value CT),,$(SAMPLE)) ## segment the sample, or CT=scan (a file or DICOM folder) into OUT=folder
	@$(RUN) -m AGTraining segment "$${CT:-$(SAMPLE)}" --out "$${OUT:-results}" --attention $(REPLACE) $$OPTIONS

train: $(STAMP) ## train on phantoms, or CONFIG=file.yaml; started again it goes on where it was
	@$(RUN) -m AGTraining train "$${CONFIG:-$(QUICK)}" $$OPTIONS

test: lint ## run all checks and the whole test suite
	$(RUN) -m pytest

lint: $(STAMP) ## check style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy AGTraining

format: $(STAMP) ## put the sources into the house style
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

benchmark: $(STAMP) ## time networks, whole paths and a click in Slicer on this machine
	$(RUN) benchmarks/inference.py
	$(RUN) benchmarks/worker.py
	$(RUN) benchmarks/planes.py

clean: ## remove what was built, but not the environment and not your results
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find AGTraining AttentionSegmentation Testing benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove the environment too
	rm -rf .venv

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

# The lock was resolved with Python 3.11, so that is looked for first; slicer-core has no wheels for 3.14 yet.
$(STAMP): $(LOCK) $(if $(wildcard $(RUN)),,FORCE)
	@if [ -n "$$PYTHON" ]; then set -- "$$PYTHON"; else set -- python3.11 python3.12 python3.13 python3 python; fi; \
	found=; for candidate in "$$@"; do \
	  "$$candidate" -I -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	    >/dev/null 2>&1 && found=$$candidate && break; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "No Python 3.11, 3.12 or 3.13 with its venv module was found (tried: $$*); install one (Debian, Ubuntu:" \
	    "apt install python3-venv) or name it: make PYTHON=/path/to/python3 ..." >&2; exit 1; \
	fi; \
	echo "Making the environment .venv with $$("$$found" --version) (first time only; a few minutes) ..."; \
	"$$found" -I -m venv --clear .venv || { \
	  echo "$$found could not make the folder .venv here; see its message above." >&2; exit 1; }
	@if [ -t 1 ]; then quiet=; else quiet=--quiet; fi; \
	$(RUN) -I -m pip install $$quiet --disable-pip-version-check --no-input -r $(LOCK) || { \
	  echo "The Python packages of $(LOCK) could not be installed: check the network connection and the free disk" \
	    "space, and run make again; pip's own message is above." >&2; exit 1; }
	@touch $@

$(SAMPLE): $(wildcard AGTraining/data/phantom*.py) | $(STAMP)
	@mkdir -p $(@D)
	@$(RUN) -m AGTraining phantom --out $@
