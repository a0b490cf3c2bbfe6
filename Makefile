# Every target makes .venv by itself. PYTHON is any Python >= 3.11.
PYTHON  ?= $(shell command -v python3.11 || command -v python3)
STUDY   ?= params/demo.yaml
CORES   ?= $(shell getconf _NPROCESSORS_ONLN)
BIN     := .venv/bin

.PHONY: demo help demo-record study fetch plan export pack unpack check-gpu results test test-fast test-precision test-cluster bench lab slides clean

CORE := $(addprefix tests/test_,training.py checkpoints.py mixture.py families.py encoders.py \
    retrieval.py tagging.py span_extraction.py hub_study.py precision.py)

demo: demo/encoder/config.json ## the demo study: no network, no GPU
	$(MAKE) --no-print-directory study STUDY=params/demo.yaml

help: ## this list
	@sed -nE 's/^([a-z-]+):.* ## (.*)/\1\t\2/p' Makefile | expand -t 16

demo-record: demo/encoder/config.json ## run the demo anew and write its figures into docs and README
	rm -rf outputs/demo
	$(BIN)/python docs/write_demo.py

study: .venv/installed $(if $(shell grep -s demo/encoder "$(STUDY)"),demo/encoder/config.json) ## one study: make study STUDY=params/NAME.yaml [SIZES=base] [PROFILE=profiles/slurm]
	$(BIN)/python tools/study.py "$(STUDY)" --cores $(CORES) $(if $(SIZES),--sizes $(SIZES)) $(if $(PROFILE),--profile "$(PROFILE)")

fetch: .venv/installed ## a study's data sets and models into a mirror: make fetch STUDY=params/NAME.yaml HUB_MIRROR=DIR
	$(BIN)/python tools/fetch.py "$(STUDY)" "$(or $(HUB_MIRROR),$(error HUB_MIRROR: found nothing, expected a folder for the mirror))"

plan: .venv/installed ## hours, memory and disk that a study needs, before anything runs: make plan STUDY=params/NAME.yaml [GPU=NAME or here]
	$(BIN)/python tools/plan.py "$(STUDY)" --gpu "$(GPU)"

export: .venv/installed ## predictions as XTREME's evaluation reads them, and results.json as lm-evaluation-harness writes it
	$(BIN)/python tools/export.py "$(STUDY)"

pack: .venv/installed ## a study's results, without weights, as one archive: outputs/NAME.tar.gz
	$(BIN)/python tools/pack.py "$(STUDY)"

unpack: .venv/installed ## results of another machine into a study: make unpack STUDY=params/NAME.yaml ARCHIVE=NAME.tar.gz
	$(BIN)/python tools/pack.py "$(STUDY)" --unpack "$(or $(ARCHIVE),$(error ARCHIVE: found nothing, expected an archive of make pack))"

results: .venv/installed ## a finished study as a page with tables and charts: docs/results/NAME.md
	$(BIN)/python docs/write_results.py "$(STUDY)"

test: demo/encoder/config.json ## ruff and all tests
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder -m "not cluster" tests

test-fast: demo/encoder/config.json ## ruff, and all tests but the longest files and mypy
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder -m "not cluster and not slow" tests

test-precision: demo/encoder/config.json ## tests of training and encoders in float32, then in bf16
	TEST_PRECISION=fp32 $(BIN)/python -m pytest -n $(CORES) --dist loadfile $(CORE)
	TEST_PRECISION=bf16 $(BIN)/python -m pytest -n $(CORES) --dist loadfile $(CORE)

test-cluster: .venv/installed ## a study on a real Slurm of two nodes on this machine; needs root, slurm-wlm and munge
	$(BIN)/python -m pytest -m cluster -rs tests

bench: .venv/installed ## speed beside transformers' example script: RUN_XNLI=/path/run_xnli.py make bench
	$(BIN)/python benchmarks/throughput.py

check-gpu: demo/encoder/config.json ## checks a GPU in five minutes: losses, speed and memory in one table
	$(BIN)/python benchmarks/check_gpu.py

lab: demo/encoder/config.json ## the notebooks in JupyterLab, with params and outputs beside them
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/0_start_here.ipynb

slides: .venv/installed ## a finished study as slides that open offline: outputs/NAME/slides.html
	$(BIN)/python docs/write_slides.py "$(STUDY)"

demo/encoder/config.json: | .venv/installed
	$(BIN)/python demo/encoder.py demo/encoder

.venv/installed: pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	    "found Python " + sys.version.split()[0] + ", expected 3.11 or newer: make PYTHON=/path/to/python3.11")'
	"$(PYTHON)" -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	-git config filter.notebook.clean "$(BIN)/nbstripout --keep-id --extra-keys metadata.language_info"
	touch $@

clean:
	rm -rf .venv demo/encoder outputs/*/
