#!/bin/bash
# venv.sh FOLDER: a virtualenv with the project, its commands and its test tools.
set -euo pipefail
folder=$1
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "venv.sh: $("$python" --version) is too old; Python 3.11 or newer is needed (PYTHON=python3.11 make …)" >&2
    exit 1
}
if ! "$folder/bin/python" -c 'import pip' 2>/dev/null; then
    echo "making $folder (about a minute, once)"
    "$python" -m venv --clear "$folder"
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1
"$folder/bin/pip" install --quiet --root-user-action=ignore --upgrade 'setuptools>=75' wheel
# "compat" puts this folder itself on sys.path. With the default, an import hook, twistd finds the
# plugins only when it is started from here: it looks for twisted/plugins along sys.path.
"$folder/bin/pip" install --quiet --root-user-action=ignore --no-build-isolation \
    --config-settings editable_mode=compat --editable '.[test]'
