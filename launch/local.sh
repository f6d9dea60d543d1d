#!/usr/bin/env bash
# Train on this machine. One process uses all GPUs, or those listed in GPUS.
#
#   GPUS=0,1 launch/local.sh [--dry-run] --config configs/sd15_dreambooth.py --workdir runs/dog
#
# The batch is split across the GPUs; config.mesh (shape.fsdp and the sharding rules) also
# shards the parameters and the optimizer state. Optional: PYTHON (.venv/bin/python).
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/step.sh

settings=()
if [[ -n ${GPUS:-} ]]; then
  settings+=("CUDA_VISIBLE_DEVICES=$GPUS")
fi
step env "${settings[@]}" "${PYTHON:-.venv/bin/python}" -m personax.train "$@"
