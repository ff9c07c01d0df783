# The README's commands. PYTHON chooses the interpreter that makes .venv.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
DEMO := runs/demo

.PHONY: demo test test-slow test-torch

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

demo: $(VENV)/installed
	@echo "Rendering rooms, then training the siamese network on pairs of their images ($(DEMO))."
	$(RUN) run_train.py --config=configs/pairs.py:quick --workdir=$(DEMO)
	@echo
	@echo "New camera paths through rooms that it was trained in (the paper's 7-Scenes protocol)."
	$(RUN) run_eval.py --workdir=$(DEMO) --dataset=synthetic_rooms --scene=train-000,train-001,train-002
	@echo
	@echo "A room that it never saw."
	$(RUN) run_eval.py --workdir=$(DEMO) --dataset=synthetic_rooms --scene=test-000
	@echo
	@echo "What to expect: minutes of training leave the network far behind SIFT; this head needs days of it,"
	@echo "and reads its answer from pooled features, which do not transfer to rooms it has not seen."

test: $(VENV)/installed
	$(RUN) -m pytest

test-slow: $(VENV)/installed
	$(RUN) -m pytest -m slow

test-torch: $(VENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-torch.txt
	$(RUN) -m pytest tests/models/torch_equality.py
