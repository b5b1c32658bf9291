# Needs Python 3.11 or newer and a package index; everything goes into .venv. README.md shows the commands behind it.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
STATED := pyproject.toml constraints.txt

# What `make bench` may be told: a scratch folder (12 GB), and the python of an environment with ms-swift.
WORK ?= runs/bench
SWIFT ?=
BENCH := $(BIN)/python -m benchmarks

.PHONY: quickstart test test-slow test-gpu check bench bench-gpu tiny clean

quickstart: .venv/installed  ## the first run: train, score before and after
	$(BIN)/pgtune train recipes/quickstart.yaml --overwrite

test: check  ## everything that takes less than ten minutes together
	$(PYTEST) -n 2

test-slow: .venv/installed-test  ## whole runs
	$(PYTEST) -n 2 -m "slow and not gpu"

test-gpu: .venv/installed-test  ## what needs a CUDA device
	$(PYTEST) -m gpu

check: .venv/installed-test  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy --strict pgtune data_adapters benchmarks

bench: .venv/installed  ## every record of a CPU, about 20 minutes on two cores: docs/speed.md
	$(BENCH) train --work $(WORK) --size pg2-3b --repeats 2 $(if $(SWIFT),--swift $(SWIFT))
	$(BENCH) train --work $(WORK) --size pg1-3b --repeats 2
	$(BENCH) tower --work $(WORK)
	$(BENCH) plan --work $(WORK)
	$(BENCH) decode --work $(WORK)
	$(BENCH) input --work $(WORK)

bench-gpu: .venv/installed  ## every record of a GPU with 80 GB
	$(BENCH) train --work $(WORK) --size pg1-3b --batch 8 --steps 12 --repeats 3 --resolution 224 448
	$(BENCH) train --work $(WORK) --size pg2-3b --batch 8 --steps 12 --repeats 3 --resolution 224 448
	$(BENCH) train --work $(WORK) --size pg2-3b --batch 1 --steps 12 --repeats 3 --resolution 448 896
	$(BENCH) train --work $(WORK) --size pg2-3b --batch 8 --steps 12 --repeats 3 --quantization nf4
	$(BENCH) train --work $(WORK) --size pg2-10b --batch 1 --steps 12 --repeats 3 --resolution 448 --quantization nf4
	$(BENCH) tower --work $(WORK) --batch 8
	$(BENCH) decode --work $(WORK)
	$(BENCH) input --work $(WORK)

tiny: .venv/installed  ## the embedded base model anew, more than an hour on a CPU; goes on where it stopped
	$(BIN)/python -m pgtune.tiny.tower --out runs/tiny/tower
	$(BIN)/python -m pgtune.tiny.build --tower runs/tiny/tower --out runs/tiny/init
	$(BIN)/pgtune train recipes/tiny/align.yaml model.base=runs/tiny/init --resume
	$(BIN)/pgtune train recipes/tiny/pretrain.yaml model.base=runs/tiny/align/model --resume
	$(BIN)/python -m pgtune.tiny.package --runs runs/tiny

clean:  ## all that can be made again but the runs
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find pgtune data_adapters recipes tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Files that say what is installed: a second call finds them and installs nothing.
.venv/created:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'pgtune needs Python 3.11 or newer: make PYTHON=python3.11')"
	$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/created $(STATED)
	@echo "installing into .venv; this takes minutes the first time"
	$(INSTALL) -e .
	@touch $@

.venv/installed-test: .venv/created $(STATED)
	@echo "installing into .venv, with what tests need; this takes minutes the first time"
	$(INSTALL) -e '.[test]'
	@touch .venv/installed $@
