#!/bin/bash
# deb.sh FOLDER: both Debian packages of this checkout into a folder. They hold the versions of
# everything that the virtualenv of this checkout has, which are those that the tests run with.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
target=$(cd "$1" && pwd)
python=${PYTHON:-$root/.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A copy of what belongs to the project: building leaves traces, and two may build at once.
source=$work/workato-agent
mkdir "$source"
tar -C "$root" --exclude-vcs --exclude='__pycache__' --exclude='*.egg-info' --exclude='dropin.cache' -cf - \
    setup.py pyproject.toml README.md LICENSE etc debian twisted/plugins \
    workato_tunnel workato_agent workato_gateway workato_client | tar -C "$source" -xf -
"$python" -m pip freeze --exclude-editable >"$source/debian/constraints.txt"

# Wheels are kept between builds; debhelper gives the build a home that it empties. Not with those of
# other Pythons: what these have compiled may look for libraries where only they have them.
export PIP_CACHE_DIR=${XDG_CACHE_HOME:-$HOME/.cache}/onprem-deb
(cd "$source" && dpkg-buildpackage --unsigned-changes --unsigned-source --build=binary) >"$work/log" 2>&1 || {
    tail -40 "$work/log" >&2
    echo "deb.sh: dpkg-buildpackage failed" >&2
    exit 1
}
cp "$work"/*.deb "$work"/*.changes "$work"/*.buildinfo "$target"
