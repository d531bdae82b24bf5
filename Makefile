# make demo · make test · make bench · make image; nothing but Python 3.11, git and make is needed.
PYTHON ?= python3
BIN := .venv/bin
PARTICIPANTS ?= 2

.PHONY: demo test lint image clean

.venv/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "demist needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: .venv/installed
	$(BIN)/demist-phantom demo/bids --participants $(PARTICIPANTS) --sessions 1 --seed 1
	$(BIN)/demist demo/bids demo/demist participant -w demo/work
	@echo "Open a report:"; ls $(CURDIR)/demo/demist/sub-*.html

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: lint .cache/pybids
	$(BIN)/pytest

# pybids' own test data sets, which its wheel leaves out
.cache/pybids: | .venv/installed
	mkdir -p $@
	$(BIN)/pip download --quiet --no-deps --no-binary pybids --dest $@ pybids==0.22.0
	tar -xzf $@/pybids-0.22.0.tar.gz -C $@ --strip-components=1 pybids-0.22.0/tests/data
	rm $@/pybids-0.22.0.tar.gz

clean:
	rm -rf .venv .cache demo build *.egg-info
