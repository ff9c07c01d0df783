# The README's commands. PYTHON chooses the interpreter that makes .venv.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test test-slow

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

test: $(VENV)/installed
	$(RUN) -m pytest

test-slow: $(VENV)/installed
	$(RUN) -m pytest -m slow
