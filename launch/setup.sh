#!/usr/bin/env bash
# Makes .venv beside the code and installs the package with the extras named, once for each
# state of setup.cfg. Sourced by tests/run.sh and launch/quickstart.sh; by hand:
#
#   bash launch/setup.sh             the package
#   bash launch/setup.sh dev         what the tests need as well
#
# Needs Python 3.11 to 3.13 (PYTHON=/path/to/python chooses one) and, if it is there, uses uv.

find_python() {  # the first suitable interpreter; each is tried, as a shim may stand for none
    local candidate
    local suits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
    for candidate in ${PYTHON:-python3.12 python3.13 python3.11 python3 python}; do
        if "$candidate" -c "$suits" >/dev/null 2>&1; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    echo "distgan needs Python 3.11, 3.12 or 3.13 (tried: ${PYTHON:-everything on PATH});" \
        "set PYTHON=/path/to/python" >&2
    return 1
}

make_venv() {  # .venv, unless it is there and works
    local venv="$1" python
    "$venv/bin/python" -c '' >/dev/null 2>&1 && return
    python="$(find_python)" || return 1
    echo "making $venv with $python"
    if command -v uv >/dev/null; then
        uv venv --quiet --allow-existing --python "$python" "$venv"
    elif ! "$python" -m venv "$venv"; then
        rm -f "$venv/bin/python"
        echo "$python cannot make a virtual environment; on Debian: apt install python3-venv" >&2
        return 1
    fi
}

install_into() {  # installs `-e ROOT[EXTRAS]` unless the same was done before
    local venv="$1" root="$2" extras="$3" state stamp
    state="$("$venv/bin/python" - "$root" "$extras" <<'PYTHON'
import hashlib, pathlib, sys
root, extras = sys.argv[1:]
files = [pathlib.Path(root, name).read_bytes() for name in ("setup.cfg", "pyproject.toml")]
print(hashlib.sha256(b"\0".join([*files, extras.encode(), root.encode()])).hexdigest()[:16])
PYTHON
)" || return 1
    stamp="$venv/installed-${extras:-base}-$state"
    [ -e "$stamp" ] && return
    echo "installing distgan${extras:+[$extras]} into $venv (some minutes, about 6 GB, once)"
    if command -v uv >/dev/null; then
        uv pip install --quiet --python "$venv/bin/python" -e "$root${extras:+[$extras]}" || return 1
    else
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            -e "$root${extras:+[$extras]}" || return 1
    fi
    touch "$stamp"
}

set_up() {  # set_up ROOT [EXTRAS]: leaves the interpreter's path in VENV_PYTHON
    local root="$1" extras="${2:-}"
    make_venv "$root/.venv" && install_into "$root/.venv" "$root" "$extras" || return 1
    VENV_PYTHON="$root/.venv/bin/python"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    set_up "$(cd "$(dirname "$0")/.." && pwd)" "${1:-}"
    echo "ready: source $(dirname "$VENV_PYTHON")/activate"
fi
