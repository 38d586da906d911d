# Every target sets up what it needs; `make` alone lists them.
SHELL := /bin/sh
UV := scripts/uv
# Only the first set-up shows its progress; afterwards this takes a twentieth of a second.
QUIET = $(if $(wildcard .venv/bin),--quiet)
SYNC = $(UV) sync $(QUIET) --locked --inexact
RUN := $(UV) run --no-sync
ARGS ?=
# Whose examples are random: plans, sessions, calls, requests and the interleavings of runs.
NIGHTLY = tests/unit/test_plan_conversations.py tests/plugin/test_random_sessions.py \
	tests/voice/test_random_calls.py tests/generated tests/interleavings

.PHONY: help demo test matrix frameworks check fix bench chaos nightly
.DEFAULT_GOAL := help

help: ## List the targets
	@sed -n 's/^\([a-z]*\): .*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r name text; do printf '%-16s %s\n' "$$name" "$$text"; done

demo: ## Talk to an agent that remembers, here in the terminal (ARGS="--help")
	@$(SYNC) --no-default-groups --group demo
	@scripts/system-libraries
	@exec $(RUN) python -m examples.terminal_agent $(ARGS)

test: ## Run the test suite, on every core (ARGS go to pytest)
	@$(SYNC) --group demo --group voice
	@scripts/system-libraries
	@exec $(RUN) pytest -n auto --dist worksteal $(ARGS)

matrix: ## Play one table of scenarios with every official SDK, Python and Node
	@$(SYNC)
	@scripts/sdk-environments
	@exec $(RUN) pytest tests/matrix $(ARGS)

frameworks: ## Hold one conversation with every framework that ships the client (1 GB, 2 minutes)
	@$(SYNC)
	@scripts/sdk-environments tests/frameworks/environments
	@exec $(RUN) pytest tests/frameworks $(ARGS)

check: ## Format, lint and types; changes nothing
	@$(SYNC) --group demo --group voice
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) mypy packages/assistants-server/src packages/livekit-plugins-assistants/livekit tests examples benchmarks scripts

fix: ## Apply formatting and the fixes that are safe
	@$(SYNC)
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

bench: ## Measure what the server costs (ARGS go to the first table)
	@$(SYNC)
	@$(RUN) python -m benchmarks.first_text $(ARGS)
	@$(RUN) python -m benchmarks.layers
	@$(RUN) python -m benchmarks.server_load
	@$(RUN) python -m benchmarks.store_ops
	@$(RUN) python -m benchmarks.voice_turn

nightly: ## Search for longer than the tests do, half an hour on two cores (ARGS="--hypothesis-seed=7")
	@$(SYNC) --group demo --group voice
	@scripts/system-libraries
	@HYPOTHESIS_PROFILE=nightly $(RUN) pytest -n auto --dist worksteal --durations=0 \
		--durations-min=1 --show-capture=no $(NIGHTLY) $(ARGS)

chaos: ## Break servers and databases under load, then audit (ARGS="--minutes 10 --seed 7")
	@$(SYNC)
	@exec $(RUN) python -m tests.chaos $(ARGS)
