PYTHON = .venv/bin/python

.PHONY: train test lint lock

train: .venv
	$(PYTHON) train.py --epochs 200

test: .venv
	$(PYTHON) -m pytest

lint: .venv
	$(PYTHON) -m ruff check .

lock:  # lock files for Python 3.10 to 3.13; needs uv
	uv pip compile --universal --python-version 3.10 --no-header --no-annotate --no-emit-index-url \
		requirements-test.in -o requirements-test.txt
	uv pip compile --universal --python-version 3.10 --no-header --no-annotate --no-emit-index-url \
		requirements-demo.in -o requirements-demo.txt

.venv: requirements-test.txt
	python3 -m venv .venv && .venv/bin/pip install -r requirements-test.txt
	touch .venv
