# make demo · make test · make docs · make bench · make image; nothing but Python 3.11, git and make is needed.
PYTHON ?= python3
BIN := .venv/bin
PARTICIPANTS ?= 2
# Open MS Data as BIDS: also a real patient, where they are at hand
REAL ?= ../shared/data/openms

.PHONY: demo demo-training small test lint image test-image cluster soak scaling speed steps package docs linear bench maps heldout robustness streams quality table1 clean

.venv/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "demist needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: .venv/installed
	$(BIN)/demist-phantom demo/bids --participants $(PARTICIPANTS) --sessions 1 --seed 1
	$(BIN)/demist demo/bids demo/demist participant -w demo/work
	if test -d $(REAL); then $(BIN)/demist $(REAL) demo/real participant -w demo/work \
	    --participant-label cross07 -d lesions=$(REAL)/derivatives/lesions; fi
	@echo "Open a report:"; ls $(CURDIR)/demo/*/sub-*.html

# Three folds and a final model of the smallest size, on six phantoms of 2 mm
demo-training: .venv/installed
	test -d demo/cohort || $(BIN)/demist-phantom demo/cohort --participants 6 --resolution 2 --seed 2 --nprocs 2
	$(BIN)/demist demo/cohort demo/demist-trained group -w demo/training-work --n-splits 3 --preset tiny \
	    --n-samples 2
	$(BIN)/demist-model info demo/demist-trained/models/final

# A diffusion model from nothing but phantoms; the same again goes on
small: .venv/installed
	$(BIN)/python -m demist_app.training.phantoms build/small/store --heads 128 --nprocs 2
	$(BIN)/python -m demist_app.training.shipped build/small/store build/small/work build/small/small \
	    --distill --threads 2 --workers 1

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/shellcheck .ci/run tests/cluster/start.sh tests/container/apptainer.sh
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.circle-ci .circleci/config.yml

test: lint .cache/pybids
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# Ten phantoms of two sites to fit on, six others to judge on
build/linear/bids: | .venv/installed
	$(BIN)/demist-phantom $@ --participants 10 --seed 100 --nprocs 2

build/bench/bids: | .venv/installed
	$(BIN)/demist-phantom $@ --participants 6 --seed 7 --nprocs 2

build/linear/demist: | build/linear/bids
	$(BIN)/demist build/linear/bids $@ participant -w build/linear/work --anat-only \
	    -d phantom=build/linear/bids/derivatives/phantom

# The shipped linear model, from nothing
linear: build/linear/demist
	$(BIN)/python -m demist_app.training.linear build/linear/demist \
	    build/linear/bids/derivatives/qmt demist_app/data/bundles/linear --training-data \
	    '10 digital phantoms (demist-phantom --participants 10 --seed 100): 2 sites at 3 T, patients and controls'

# Time and memory
bench: build/bench/bids
	$(BIN)/demist build/bench/bids build/bench/demist participant -w build/bench/work --clean-workdir \
	    --resource-monitor
	$(BIN)/python benchmarks/participant.py build/bench/demist --phantom build/bench/bids

# Maps by the shipped models of phantoms they were not trained on, and of real scans
maps: build/bench/bids build/linear/demist
	for model in linear small; do \
	    $(BIN)/demist build/bench/bids build/heldout/$$model participant -w build/heldout/work \
	        --model $$model || exit; \
	    if test -d $(REAL); then $(BIN)/demist $(REAL) build/real/$$model participant \
	        -w build/real/work --model $$model -d lesions=$(REAL)/derivatives/lesions || exit; fi; \
	done

# How good they are: the scores of the model card
HELDOUT = $(BIN)/python benchmarks/heldout.py build/bench/bids linear=build/heldout/linear \
    small=build/heldout/small --metrics build/heldout/metrics.json \
    --training build/linear/demist build/linear/bids/derivatives/qmt
heldout: maps
	$(HELDOUT)

# What becomes of maps when scans are damaged, and on a scanner never seen; the same again goes on
robustness: .venv/installed
	PYTHONPATH=benchmarks $(BIN)/python -m robustness build/robustness

# All that is known of the quality of the shipped models, on one page, and in the model card of small
PHANTOM = build/bench/bids/derivatives
QUALITY = echo '\n\#\# Held-out phantoms\n' && $(HELDOUT) && \
    echo '\n\#\# Their lesions\n' && \
    $(BIN)/python benchmarks/lesions.py $(PHANTOM)/phantom linear=build/heldout/linear \
        small=build/heldout/small --measured $(PHANTOM)/qmt --phantom $(PHANTOM)/phantom \
        --metrics build/heldout/metrics.json && \
    for model in linear small; do echo "\n\#\# Standard deviation of $$model\n" && \
        $(BIN)/python benchmarks/calibration.py build/bench/bids build/heldout/$$model \
            --metrics build/heldout/metrics.json || exit; done
QUALITY_REAL = echo '\n\#\# Real scans, without measured PSR' && \
    $(BIN)/python benchmarks/real.py build/real/linear build/real/small --measured \
        $(REAL)/../sir-psr/PSR.nii.gz $(REAL)/../sir-psr/brain_mask.nii.gz && \
    echo '\n\#\# Lesions of real scans\n' && \
    $(BIN)/python benchmarks/lesions.py $(REAL)/derivatives/lesions linear=build/real/linear \
        small=build/real/small --reference 'FLAIR alone'
quality: maps
	{ echo '# Quality of the shipped models' && $(QUALITY) && \
	    if test -d $(REAL); then $(QUALITY_REAL); fi; } >build/quality.part
	mv build/quality.part build/quality.md
	$(BIN)/python benchmarks/card.py demist_app/data/bundles/small build/heldout/metrics.json

# What each conditioning stream is worth, on the same phantoms; after make small and make heldout
streams: build/bench/bids
	for pair in semantic,spatial semantic,adaptive spatial,adaptive; do \
	    $(BIN)/python -m demist_app.training.shipped build/small/store build/small/work \
	        build/small/ablation/small-$$(echo $$pair | tr , -) --streams $$pair --threads 2 || exit; \
	done
	$(BIN)/python benchmarks/streams.py build/small/work build/bench/bids build/heldout/small

# The paper's Table 1 on phantoms: a night on two cores; the same again goes on
table1: .venv/installed
	PYTHONPATH=benchmarks $(BIN)/python -m table1 build/table1

# pybids' own test data sets, which its wheel leaves out
.cache/pybids: | .venv/installed
	mkdir -p $@
	$(BIN)/pip download --quiet --no-deps --no-binary pybids --dest $@ pybids==0.22.0
	tar -xzf $@/pybids-0.22.0.tar.gz -C $@ --strip-components=1 pybids-0.22.0/tests/data
	rm $@/pybids-0.22.0.tar.gz

ENGINE ?= docker
image:
	$(ENGINE) build -t demist --build-arg REVISION=$$(git rev-parse HEAD) .

test-image: .venv/installed
	DEMIST_ENGINE=$(ENGINE) DEMIST_IMAGE=demist $(BIN)/pytest tests/container

# The jobs that demist writes, on a SLURM cluster of one node (as root, with slurm-wlm and munge)
cluster: .venv/installed
	eval "$$(tests/cluster/start.sh build/slurm)" && $(BIN)/pytest -m slurm tests/cluster; \
	    code=$$?; tests/cluster/start.sh --stop build/slurm; exit $$code

# Broken scans, a killed worker, and what a rerun does about it
soak: .venv/installed
	rm -rf build/soak
	$(BIN)/python benchmarks/soak.py build/soak --broken 4

# Seconds per unit in cohorts of 1, 10 and 50
scaling: .venv/installed
	$(BIN)/python benchmarks/scaling.py build/scaling

# Quality beside speed, the recipe of the paper in stock parts and ours; after make small and make maps
speed: build/bench/bids
	$(BIN)/python -m demist_app.training.shipped build/small/store build/small/work build/small/teacher \
	    --threads 2 --workers 1
	PYTHONPATH=benchmarks $(BIN)/python -m speed build/small/teacher build/bench/bids build/heldout/small \
	    build/speed --student demist_app/data/bundles/small
	PYTHONPATH=benchmarks $(BIN)/python -m speed.rounds build/small/teacher \
	    demist_app/data/bundles/small build/speed/sub-01_ses-01.npz

# What an update of stages 1a and 2 costs beside the loop of a tutorial; after make small
steps: .venv/installed
	$(BIN)/python benchmarks/steps.py build/small/store

# The user guide, in build/site
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Source distribution, and the wheel made of it
package: .venv/installed
	rm -rf build/dist
	$(BIN)/python -m build --outdir build/dist
	$(BIN)/python -m zipfile --list build/dist/demist-*.whl >build/dist/list

clean:
	rm -rf .venv .cache demo build *.egg-info
