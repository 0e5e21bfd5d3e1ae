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
# The last: what setuptools says of editable installs is known and no concern of the reader.
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore
"$folder/bin/pip" install --quiet --root-user-action=ignore --upgrade 'setuptools>=75' wheel \
    cffi # which python-qpid-proton is built with
"$folder/bin/pip" install --quiet --root-user-action=ignore --no-build-isolation --editable '.[test]'
# twistd looks for twisted/plugins along sys.path, which an editable install (an import hook) leaves
# as it is. With this folder on it the plugins are found from anywhere, not only from here.
"$folder/bin/python" -c '
import pathlib, sysconfig
path = pathlib.Path(sysconfig.get_path("purelib"), "onprem-checkout.pth")
path.write_text(str(pathlib.Path.cwd()) + "\n", encoding="utf-8")
'
