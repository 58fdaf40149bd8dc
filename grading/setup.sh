#!/usr/bin/env bash
# Gradescope runs this once, as root, when it builds the image: Python, torch for the CPU, gptlib.
set -euo pipefail
apt-get update
DEBIAN_FRONTEND=noninteractive apt-get install -y python3-pip git
export UV_PYTHON_INSTALL_DIR=/autograder/python
pip3 install uv 2>/dev/null || pip3 install --break-system-packages uv
uv venv --python 3.12 /autograder/venv
uv pip install --python /autograder/venv/bin/python --torch-backend cpu \
  "gptlib[grade] @ git+REPOSITORY"
