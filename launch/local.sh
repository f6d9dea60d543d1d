#!/usr/bin/env bash
# A run on this machine; one process drives all of its GPUs, or those that GPUS names:
#
#   GPUS=0,1 launch/local.sh [--dry-run] --config configs/sd15_dreambooth.py --workdir runs/dog
#
# A batch is spread over them; config.mesh.shape.fsdp and the rules beside it split
# parameters and their moments as well. PYTHON is .venv/bin/python.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/step.sh

settings=()
if [[ -n ${GPUS:-} ]]; then
  settings+=("CUDA_VISIBLE_DEVICES=$GPUS")
fi
step env "${settings[@]}" "${PYTHON:-.venv/bin/python}" -m personax.train "$@"
