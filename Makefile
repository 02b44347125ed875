# make demo    install into .venv, run Facet over a few photos, say where to look
# make test    install what the tests need, run all that are not slow
# make test-all  the slow ones too
# make lint    ruff and mypy
# make clean   remove what the above made

PYTHON ?= $(shell for python in python3.12 python3.11 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
VENV ?= .venv
PYTEST_ARGS ?= -n 2 --dist loadfile
BIN := $(VENV)/bin
TORCH := $(shell sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)

.PHONY: demo test test-all lint clean

demo: $(VENV)/installed
	@rm -rf demo
	@$(BIN)/python tests/demo_photos.py demo/photos
	$(BIN)/facet normals demo/photos demo/out --engine ray
	$(BIN)/facet details demo/photos/astronaut.jpg demo/heads --export glb
	$(BIN)/facet multiview tests/photos/person demo/person
	@echo "One head in three photos: demo/person/report/heads.html"
	@echo "A head: demo/heads/report/heads.html, and a folder in demo/heads/heads."
	@echo "Look at demo/out/report/index.html in a browser; the records are in demo/out/records."
	@echo "source $(BIN)/activate puts facet on the path: facet normals YOUR_PHOTOS OUT"

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m "not slow"

test-all: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Facet needs Python 3.11 or 3.12; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first and by its exact version, so that nothing else chooses a build of it.
$(VENV)/installed: pyproject.toml | $(BIN)/python
	@echo "Installing Facet and what it needs into $(VENV): some minutes, the first time."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
