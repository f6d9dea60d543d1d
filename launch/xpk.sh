#!/usr/bin/env bash
# Train on TPU slices of a GKE cluster created with xpk.
#
#   CLUSTER=mine TYPE=v5litepod-16 IMAGE=python:3.12 launch/xpk.sh [--dry-run] \
#       --config configs/sd15_dreambooth.py --workdir /runs/dog
#
# All hosts share one work directory. Attach a bucket at /runs once with
# `xpk storage attach runs --cluster=mine --type=gcsfuse --bucket=my-runs \
#  --mount-point=/runs --readonly=false --auto-mount=true`. The bucket needs a hierarchical
# namespace, because finished checkpoints are renamed. xpk copies this folder into the
# image. Optional: SLICES (1), NAME (personax), RESTARTS after a preemption (100).
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/step.sh

need CLUSTER "the GKE cluster created with xpk"
need TYPE "the accelerator, such as v5litepod-16"
need IMAGE "a Docker image with Python 3.11 or newer"

# Status 75: stopped by SIGTERM before the last step; the pod is restarted.
step xpk workload create --cluster "$CLUSTER" --workload "${NAME:-personax}" \
  --tpu-type "$TYPE" --num-slices "${SLICES:-1}" --base-docker-image "$IMAGE" \
  --max-restarts "${RESTARTS:-100}" --command \
  "pip install -q '.[tpu]' && exec python -m personax.train --stopped_status=75 ${*@Q}"
