# `make demo` shows the product, `make test` checks it. Both make .venv on the first run.
# `make torture FOLDERS=...`, `make crash` and `make prove` try to break it, for minutes or for hours, and write
# into docs/reliability.md.
PYTHON ?= python3
VENV   ?= .venv
# faiss-gpu only where there is a GPU to answer; it must never be installed beside faiss-cpu.
FAISS  := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
PIP    := $(VENV)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt

# pip installs without bytecode, which is quick; Python then compiles what is imported, once, if it may write it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint torture crash prove clean

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e ".[$(FAISS)]"
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e ".[$(FAISS),dev]"
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed
	$(VENV)/bin/ragserve ingest examples/corpus --index examples/.ragserve
	$(VENV)/bin/ragserve query --index examples/.ragserve --file examples/questions.txt

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

test: lint
	HF_HUB_OFFLINE=1 $(VENV)/bin/python -m pytest

HARNESS  = HF_HUB_OFFLINE=1 PYTHONPATH=tests/indexer:tests/retriever $(VENV)/bin/python -m
FOLDERS ?= examples/corpus

# A run that was interrupted goes on where it stopped; `rm -r .torture` starts anew.
torture: $(VENV)/.installed-dev
	$(HARNESS) harness.torture $(FOLDERS) --work .torture --record
	$(HARNESS) harness.offsets $(FOLDERS) --index .torture/index --record

crash: $(VENV)/.installed-dev
	$(HARNESS) harness.crash --kills 500 --record
	$(HARNESS) harness.operations --operations 100000 --record

prove: $(VENV)/.installed-dev
	$(HARNESS) proofs.certificate --hits 1000000 --record

clean:
	rm -rf $(VENV) examples/.ragserve .torture build *.egg-info
