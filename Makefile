# The README's commands. PYTHON chooses the interpreter that makes .venv.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
DEMO := runs/demo
# Most tests keep one core busy compiling, and some wait; each process takes up to 3 GB.
PARALLEL := -n 3 --dist worksteal
INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check
LOCK := $(VENV)/bin/uv pip compile --quiet --universal --no-annotate --no-python-downloads \
	--custom-compile-command "make lock" pyproject.toml

.PHONY: demo test test-seeds test-slow test-torch test-faiss test-ray test-report test-web test-package docs lint lock faults audit

$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -r requirements.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

demo: $(VENV)/installed
	@echo "Rendering 15 rooms; then two that no network has seen, localized by the network that ships."
	$(RUN) run_eval.py --dataset=synthetic_rooms --scene=test-000,test-001 --out=$(DEMO)/eval/shipped
	@echo
	@echo "Rendering seven other rooms. The paper's network, trained on other pictures of them (configs/weights),"
	@echo "sees new camera paths through them (the paper's 7-Scenes protocol, with a tenth of the pictures)."
	$(RUN) run_eval.py --workdir=configs/weights/seven_rooms --dataset=seven_rooms/small --scene=all --baseline=nearest --method=median --out=$(DEMO)/eval/seven
	@echo
	@echo "A minute of training goes on from its weights ($(DEMO)/training)."
	$(RUN) run_train.py --config=configs/pairs.py:demo --workdir=$(DEMO)/training --config.data.features_dir=$(DEMO)/features
	@echo
	@echo "What to expect: the paper's network reads its answer from features of the whole image, and beats the"
	@echo "most similar image in rooms that it was trained in. The first table's network reads it from matches,"
	@echo "and has not seen its rooms (docs/experiments/demo.md)."

test: $(VENV)/installed
	$(RUN) -m pytest $(PARALLEL)

# An hour of broken files, killed processes and full disks; goes on where it stopped (runs/faults).
MINUTES ?= 60
faults: $(VENV)/installed
	$(RUN) -m tests.faults.campaign --minutes=$(MINUTES)

# Known vulnerabilities of the pinned versions; fails where they cannot be looked up.
audit: $(VENV)/installed
	$(INSTALL) pip-audit==2.10.1
	$(RUN) -m pip_audit --strict --requirement requirements.txt --disable-pip --no-deps

# Tests with random inputs, each with five seeds, of which the first is the run's.
test-seeds: $(VENV)/installed
	$(RUN) -m pytest $(PARALLEL) --seeds=5

test-slow: $(VENV)/installed
	XLA_FLAGS= $(RUN) -m pytest $(PARALLEL) -m slow

test-torch: $(VENV)/installed
	$(INSTALL) -r requirements-torch.txt
	$(RUN) -m pytest tests/models/torch_equality.py

test-faiss: $(VENV)/installed
	$(INSTALL) -r requirements-faiss.txt
	$(RUN) -m pytest tests/localization/neighbors/faiss_index.py tests/localization/map/large/kept_index.py

# Clusters of two nodes on this machine, one of which is killed: half an hour.
test-ray: $(VENV)/installed
	$(INSTALL) -r requirements-ray.txt
	$(RUN) -m pytest -m ray tests/scale

test-report: $(VENV)/installed
	$(INSTALL) -r requirements-rerun.txt
	$(RUN) -m pytest -m report tests/evaluation

# The server's page in a real browser, which Debian's packages bring where there is none.
test-web: $(VENV)/installed
	command -v chromium >/dev/null || test -n "$$CHROMIUM" || \
		{ apt-get update -qq && apt-get install -qqy --no-install-recommends chromium; }
	$(RUN) -m pytest -m web tests/serving

docs: $(VENV)/installed
	$(INSTALL) -r requirements-docs.txt
	$(VENV)/bin/mkdocs build --strict

lint: $(VENV)/installed
	$(VENV)/bin/ruff check

# Builds the wheel and installs it twice, by the versions of today and by the lowest: minutes, and 400 MB to fetch.
test-package: $(VENV)/installed
	$(RUN) -m pytest -m package tests/test_package.py

# The versions that pyproject.toml allows become the ones that are installed; those that fit stay.
lock: $(VENV)/installed
	$(LOCK) --extra dev --output-file requirements.txt
	for extra in cuda docs faiss ray rerun torch; do \
		$(LOCK) --extra $$extra --constraint requirements.txt --output-file requirements-$$extra.txt || exit 1; \
	done
