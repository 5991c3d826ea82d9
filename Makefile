PYTHON ?= python3
BIN := .venv/bin
OUT := runs/demo

# constraints.txt pins PyTorch, whose newest build may bring gigabytes of CUDA that a CPU has no use for, and the
# linters, of which each new version may ask for something else.
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test clean

demo: .venv/installed
	$(BIN)/irst run videos/horizon/sequence8.mp4 --out $(OUT) --overwrite
	@echo "watch    $(OUT)/annotated.mp4"

test: .venv/installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -m "not alone" --numprocesses auto --maxprocesses 4 --dist worksteal
	$(BIN)/pytest -m alone

clean:
	rm -rf .venv runs

# TrackEval would bring a second OpenCV that overwrites the headless one; what is used of it needs NumPy and SciPy alone.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is older than 3.11; name another: make $(MAKECMDGOALS) PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	$(INSTALL) --no-deps trackeval==1.3.0
	touch $@

.venv/installed-tests: .venv/installed
	$(INSTALL) --editable '.[test]'
	touch $@
