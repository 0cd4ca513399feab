# Shared by the scripts beside it: a virtual environment in .venv with this package and an extra.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

install() {
  local python="${PYTHON:-python3}"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "Python 3.11 or newer is needed; name one with PYTHON=..." >&2; exit 1; }
  echo "Installing into .venv; the first time takes a minute or two." >&2
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$1]"
}
