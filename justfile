# What a developer runs. `uv run just` lists the recipes, `uv run just check` is what CI asks for.

set shell := ["bash", "-euo", "pipefail", "-c"]

_list:
    @{{ just_executable() }} --list --unsorted

# everything that must hold before a commit lands
check: format lint imports types test docs

# is the code formatted?
format:
    uv run ruff format --check .

# every rule of ruff, less those that pyproject.toml gives a reason for
lint:
    uv run ruff check .

# do imports go downward only?
imports:
    uv run lint-imports

# does the source type-check?
types:
    uv run mypy

# the tests, on the default Python
test *args:
    uv run pytest -n 2 --dist loadfile {{ args }}

# the tests on Python 3.12, in an environment of its own
test312 *args:
    env -u VIRTUAL_ENV UV_PROJECT_ENVIRONMENT=.venv312 uv run --python 3.12 pytest -n 2 --dist loadfile {{ args }}

# the examples in README and docs, and the fragments of the changelog
docs: changelog
    uv run pytest README.md docs

# what the next release will say
changelog:
    uv run towncrier build --draft --version next

# let ruff mend what it can
fix:
    uv run ruff check --fix .
    uv run ruff format .

# how fast, beside peers, on this machine (benchmarks/README.md)
bench *args:
    uv run --group bench python -m benchmarks {{ args }}

# other people's tests against us: downloads source archives, commits nothing of them
external *args:
    uv run --group bench python -m external {{ args }}
