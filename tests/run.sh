#!/usr/bin/env bash
# Sets up what is missing, then checks style and runs the tests.
#
#   bash tests/run.sh                        everything
#   bash tests/run.sh --quick                the part under three minutes: no slow tests, no Ray
#   bash tests/run.sh [--quick] PYTEST-ARGS  for example: tests/data -k order -x
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
case "${1:-}" in -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0" && exit ;; esac

selection=()
if [ "${1:-}" = "--quick" ]; then
    selection=(-m "not slow and not ray")
    shift
fi
source launch/setup.sh
set_up "$root" dev

# One thread a process: the tests run side by side and their networks are tiny.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
jobs="$("$VENV_PYTHON" -c 'import os; print(min(os.cpu_count() or 1, 4))')"
status=0
"$VENV_PYTHON" -m ruff check . || status=$?
"$VENV_PYTHON" -m pytest -n "$jobs" --dist loadgroup --durations=10 \
    ${selection[@]+"${selection[@]}"} "$@" || status=$?
exit "$status"
