#!/usr/bin/env bash
# A run on TPU slices of a GKE cluster that xpk made:
#
#   CLUSTER=mine TYPE=v5litepod-16 IMAGE=python:3.12 launch/xpk.sh [--dry-run] \
#       --config configs/sd15_dreambooth.py --workdir /runs/dog
#
# The work directory must be one for all hosts: attach a bucket at /runs once, by
# `xpk storage attach runs --cluster=mine --type=gcsfuse --bucket=my-runs \
#  --mount-point=/runs --readonly=false --auto-mount=true`. Its namespace must be
# hierarchical, since checkpoints are renamed when they are whole. This folder goes into
# the image. SLICES (1), NAME and RESTARTS (100), of what was taken away, may be set.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/step.sh

need CLUSTER "the GKE cluster that xpk made"
need TYPE "the accelerator, such as v5litepod-16"
need IMAGE "a Docker image with Python 3.11 or newer"

# A pod that was told to stop has not succeeded: its status is 75, and it is restarted.
step xpk workload create --cluster "$CLUSTER" --workload "${NAME:-personax}" \
  --tpu-type "$TYPE" --num-slices "${SLICES:-1}" --base-docker-image "$IMAGE" \
  --max-restarts "${RESTARTS:-100}" --command \
  "pip install -q '.[tpu]' && exec python -m personax.train --stopped_status=75 ${*@Q}"
