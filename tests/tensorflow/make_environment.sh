#!/usr/bin/env bash
# Make the environment that the tests marked `tensorflow` need (about 2 GB), and say how to run them.
#     tests/tensorflow/make_environment.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/../.."
folder="${1:-.venv-tensorflow}"
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --requirement tests/tensorflow/requirements.txt
echo "BERTLAB_TENSORFLOW_PYTHON=$(realpath -s "$folder/bin/python") .venv/bin/python -m pytest -m tensorflow"
