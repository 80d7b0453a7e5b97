# Everything runs in .venv, which `make install` makes. Models and data are kept in the user's cache folder (BERTLAB_CACHE).
PYTHON ?= python3
BIN := .venv/bin
# bfloat16 where the CPU computes in it; elsewhere it would be emulated, and slow.
CPU := $(shell grep -qsE 'avx512_bf16|amx_bf16' /proc/cpuinfo && echo cpu_bf16 || echo cpu)

.PHONY: install quickstart check test test-slow test-ray test-gpu test-tensorflow clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit("bertlab needs Python 3.11 to 3.13; name one with PYTHON=…")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# The main job on real data: fine-tune MiniLM on the SMS spam collection with three strategies together, test it.
quickstart: install
	$(BIN)/bertlab fit --config configs/finetune/sms_spam.yaml --config configs/hardware/$(CPU).yaml

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# One thread a process: the tests are many small things, and the cores run them side by side. Those of Ray are among them
# where Ray is installed.
test: install
	ray=$$($(BIN)/python -c 'import importlib.util as u; print("" if u.find_spec("ray") else "and not ray")') && \
	OMP_NUM_THREADS=1 WANDB_MODE=offline $(BIN)/python -m pytest -n auto -m "not slow and not gpu and not tensorflow $$ray"

test-slow: install
	OMP_NUM_THREADS=1 WANDB_MODE=offline $(BIN)/python -m pytest -n auto -m slow

# Installs Ray, 80 MB to download.
test-ray: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cluster]'
	OMP_NUM_THREADS=1 WANDB_MODE=offline $(BIN)/python -m pytest -m ray

test-gpu: install
	$(BIN)/python -m pytest -m gpu

# Against real TensorFlow, in an environment of its own (tests/tensorflow/make_environment.sh makes it).
test-tensorflow: install
	$(BIN)/python -m pytest -m tensorflow

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
