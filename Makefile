# Every target does its own set-up; a second call finds it done.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed
export OMP_WAIT_POLICY = passive

.PHONY: demo test check bench results format clean

demo: $(STAMP)
	$(BIN)/worldenv demo --out out/demo

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n 2

bench: $(STAMP)
	$(BIN)/worldenv bench engine --out out/bench-engine.json

# Every figure of the README, from the packaged world; takes about an hour on two cores.
results: $(STAMP)
	for suite in revisit short_term drift memory action reconstruction geometry; do \
	  $(BIN)/worldenv eval $$suite --out out/results/$$suite || exit 1; \
	  cp out/results/$$suite/report.json docs/results/$$suite.json; \
	done
	$(BIN)/worldenv bench engine --out docs/results/bench-engine.json
	$(BIN)/worldenv bench backends --out docs/results/bench-backends.json
	$(BIN)/worldenv bench memory --chunks 10000 --steps 300 --out docs/results/bench-memory.json
	$(BIN)/python -c "import imageio.v3 as i; i.imwrite('docs/contact.jpg', i.imread('out/results/revisit/contact.png')[::2, ::2], quality=90)"
	cp out/results/geometry/geometry.png docs/geometry.png
	cp out/results/memory/means.png docs/memory.png
	$(BIN)/python docs/tables.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# torch first and pinned: a bare requirement would take a build with several gigabytes of CUDA libraries.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[sims,worldplay,kernels,dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) out
