# The README's commands. PYTHON chooses the interpreter that makes .venv.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
DEMO := runs/demo
# Most tests keep one core busy compiling; each process takes up to 3 GB.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile

.PHONY: demo test test-slow test-torch test-faiss test-report

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

demo: $(VENV)/installed
	@echo "Rendering 15 rooms; then two that no network has seen, localized by the network that ships."
	$(RUN) run_eval.py --dataset=synthetic_rooms --scene=test-000,test-001 --out=$(DEMO)/eval/shipped
	@echo
	@echo "The paper's network, trained on pairs of images of other rooms ($(DEMO))."
	$(RUN) run_train.py --config=configs/pairs.py:quick --workdir=$(DEMO)
	@echo
	@echo "New camera paths through rooms that it was trained in (the paper's 7-Scenes protocol)."
	$(RUN) run_eval.py --workdir=$(DEMO) --dataset=synthetic_rooms --scene=train-000,train-001,train-002 --out=$(DEMO)/eval/seen
	@echo
	@echo "A room that it never saw."
	$(RUN) run_eval.py --workdir=$(DEMO) --dataset=synthetic_rooms --scene=test-000 --out=$(DEMO)/eval/unseen
	@echo
	@echo "What to expect: the paper's head after minutes of training is far behind SIFT, and needs days of it;"
	@echo "it reads its answer from pooled features, which do not transfer to rooms it has not seen."
	@echo "The first table's network reads it from matches, and does."

test: $(VENV)/installed
	$(RUN) -m pytest $(PARALLEL)

test-slow: $(VENV)/installed
	$(RUN) -m pytest $(PARALLEL) -m slow

test-torch: $(VENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-torch.txt
	$(RUN) -m pytest tests/models/torch_equality.py

test-faiss: $(VENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-faiss.txt
	$(RUN) -m pytest tests/localization/faiss_index.py

test-report: $(VENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-rerun.txt
	$(RUN) -m pytest -m report tests/evaluation tests/test_run_eval.py tests/test_run_localize.py
