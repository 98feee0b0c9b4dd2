# `make run` and `make test` are all the set-up there is: both create the environment in .venv when it is not there.
#
#   make run ARGS="ablation=heads_zero dataset=facts dataset.n_examples=100"
#   make PYTHON=python3.12 test
#
# On a Linux machine without a GPU, put PyTorch's CPU wheels beside your package index first (PIP_EXTRA_INDEX_URL; the address
# stands on pytorch.org): the same commands then fetch a few hundred megabytes instead of several gigabytes.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BENCH ?=
FUZZ_SECONDS ?= 3600
FAULTS ?= tests/faults
ARGS ?= ablation=heads_zero dataset=facts
# Two processes of one thread each: torch on small models gains nothing from a second thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

SLOW := -m 'slow and not faults and not fuzz and not training'

SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.PHONY: help run test test-slow test-training faults fuzz bench bench-full performance docs site coverage pictures behaviours selfcheck golden check audit sbom format env clean

help:
	@echo "make run        run the default experiment (ARGS='...' for another)"
	@echo "make test       the test suite"
	@echo "make test-slow  the tests that take minutes"
	@echo "make test-training  train the default autoencoder and hold it to its bars"
	@echo "make faults     kill, fill, damage and starve the tool some 300 times; about half an hour (docs/reliability.md)"
	@echo "make fuzz       10,000 random inputs and an hour of coverage-guided fuzzing (FUZZ_SECONDS=...)"
	@echo "make bench      time the engine against the usual loops (three quarters of an hour; bench-full: all runs; performance: write the page)"
	@echo "make check      style, types, architecture, duplicates, known vulnerabilities, generated documentation"
	@echo "make sbom       dist/sbom.json, the bill of materials of a release"
	@echo "make behaviours   measure the default model on every behaviour (docs/behaviours.md)"
	@echo "make selfcheck  does the tool find circuits that are known? about five minutes (docs/selfcheck.md)"
	@echo "make coverage   the test suite, and which lines it does not reach (build/coverage)"
	@echo "make site       the documentation as a site (build/site)"
	@echo "make docs         docs/reference.md from the schema; make pictures: the pictures, from runs of the default model"
	@echo "make env        only create the environment in $(VENV)"

run: env
	$(BIN)/tiny-ablate $(ARGS)
	@printf '\n%s\n' 'In this shell: `source $(BIN)/activate`, then every tiny-ablate command as printed; or without: make run ARGS="..."'

test: env
	$(PYTEST)

coverage: env
	$(PYTEST) --cov --cov-report=term --cov-report=html

test-slow: env $(VENV)-launchers/.installed
	TINY_ABLATE_CHECK_TYPES=1 $(PYTEST) $(SLOW) tests/engine
	$(PYTEST) $(SLOW) --ignore tests/engine

# Not part of .ci/run: it needs two cores for itself.
test-training: env
	$(BIN)/python -m pytest -m training

# One process, one core. Some faults need rights to mount a file system and say so where they are skipped.
# FAULTS=tests/faults/test_memory.py counts the faults of one file anew and leaves the other rows of the table.
faults: env
	$(if $(filter tests/faults,$(FAULTS)),rm -f outputs/faults/*.json)
	TINY_ABLATE_FAULTS=outputs/faults OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m '' $(FAULTS); \
	  status=$$?; $(BIN)/python -m tests.faults.table outputs/faults docs/reliability.md; exit $$status

# Let the environment of the target's directory see the packages of $(VENV) as well.
define on_top
$(@D)/bin/python -c 'import pathlib, site, sys; base = sys.argv[1]; \
  (pathlib.Path(site.getsitepackages()[0]) / "base.pth").write_text(f"import site; site.addsitedir({base!r})\n")' \
  "$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')"
endef

# Launchers of clusters slow every start of Hydra down and pin old versions, so they have an environment of their own on top.
$(VENV)-launchers/.installed: $(VENV)/.installed
	test -x $(@D)/bin/python || $(BIN)/python -m venv $(@D)
	$(call on_top)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check 'hydra-ray-launcher>=1.2.2,<2' 'hydra-submitit-launcher>=1.2,<2'
	@touch $@

# What it finds, and the inputs that reach new code, stand in fuzz/; a second call begins with the latter. See docs/trust-and-input.md.
fuzz: env $(VENV)-fuzz/.installed
	$(BIN)/python -m pytest -m fuzz tests/properties
	rm -rf fuzz/stats fuzz/findings
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(VENV)-fuzz/bin/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS) --out fuzz

# The fuzzer has wheels for Linux and some versions of Python only, so it is no part of the environment that everyone needs.
$(VENV)-fuzz/.installed: $(VENV)/.installed
	test -x $(@D)/bin/python || $(BIN)/python -m venv $(@D)
	$(call on_top)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt 'atheris>=3.0'
	@touch $@

# BENCH='--rounds 1 --jobs heads:facts=64' and the like; `$(BIN)/python -m benchmarks.bench --help` lists them.
# How soon the page of a sweep opens is measured by `$(BIN)/python -m benchmarks.opening`.
bench: env
	$(BIN)/python -m benchmarks.bench $(BENCH)

# The page of the results in benchmarks/results, and of PERFORMANCE='outputs/bench/A.json ...' beside them.
performance: env
	$(BIN)/python -m benchmarks.page $(PERFORMANCE)

bench-full: env
	$(BIN)/python -m benchmarks.bench --full $(BENCH)
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.screening

behaviours: env
	$(BIN)/tiny-ablate behaviours --out docs/behaviours.md

selfcheck: env
	$(BIN)/tiny-ablate selfcheck

# The results on file against those of this code, the default model's too; GOLDEN="--write" after a deliberate change (CHANGELOG.md).
golden: env
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.golden --default-model $(GOLDEN)

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/pylint --jobs=0 --disable=all --enable=duplicate-code tiny_ablation
	$(BIN)/tiny-ablate help config | diff docs/reference.md - || { echo "docs/reference.md is not in step: make docs"; exit 1; }
	$(SITE)
	$(BIN)/python tools/audit.py

audit: env
	$(BIN)/python tools/audit.py

# What an installation of this version consists of, in CycloneDX's format: the packages that it needs, with versions and licences.
sbom: env
	$(BIN)/python tools/sbom.py dist/sbom.json

# docs/reference.md, from the schema.
docs: env
	$(BIN)/tiny-ablate help config > docs/reference.md

# The pages of docs/ as a site. A link that leads nowhere, or a page that is in no menu, is an error.
site: env
	$(SITE)

# The pictures of the README and the tutorial, from real runs of the default model (minutes).
pictures: env
	$(BIN)/python docs/make_pictures.py $(BIN)/tiny-ablate docs/pictures

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else "tiny-ablate needs Python 3.11 or later; this is %d.%d: make PYTHON=python3.11" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-launchers $(VENV)-fuzz
