PYTHON = .venv/bin/python

.PHONY: help train test lint lock

help:  # lists these targets
	@sed -n 's/^\([a-z]*\):.*  # /make \1\t/p' Makefile

train: .venv  # trains the full model on the sample set, in runs/pix2pix
	$(PYTHON) train.py --epochs 200

test: .venv  # runs the quick tests
	$(PYTHON) -m pytest

lint: .venv  # runs the linter
	$(PYTHON) -m ruff check .

lock:  # writes the lock files for Python 3.10 to 3.13; needs uv
	uv pip compile --universal --python-version 3.10 --no-header --no-annotate --no-emit-index-url \
		requirements-test.in -o requirements-test.txt
	uv pip compile --universal --python-version 3.10 --no-header --no-annotate --no-emit-index-url \
		requirements-demo.in -o requirements-demo.txt
	uv pip compile --universal --python-version 3.10 --no-header --no-annotate --no-emit-index-url \
		requirements-onnx.in -o requirements-onnx.txt

.venv: requirements-test.txt
	python3 -m venv .venv && .venv/bin/pip install -r requirements-test.txt
	touch .venv
