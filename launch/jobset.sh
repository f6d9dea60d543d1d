#!/usr/bin/env bash
# Train on TPU slices of a GKE cluster with JobSet. Fills in launch/jobset.yaml and applies
# it; --dry-run prints it instead.
#
#   IMAGE=… BUCKET=my-runs ACCELERATOR=tpu-v5-lite-podslice TOPOLOGY=4x4 HOSTS=4 \
#       launch/jobset.sh [--dry-run] --config configs/sd15_dreambooth.py --workdir /runs/dog
#
# IMAGE has this repository as its working directory and `pip install .[tpu]` applied.
# HOSTS is the number of hosts per slice. Optional: NAME (personax), SLICES (1), CHIPS per
# host (4), ACCOUNT (the Kubernetes service account; default).
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/step.sh

need IMAGE "a Docker image that contains personax"
need BUCKET "the bucket mounted at /runs, without gs://"
need ACCELERATOR "the accelerator of the node pool, such as tpu-v5-lite-podslice"
need TOPOLOGY "the topology of one slice, such as 4x4"
need HOSTS "the number of hosts per slice"
export IMAGE BUCKET ACCELERATOR TOPOLOGY HOSTS
export NAME=${NAME:-personax} SLICES=${SLICES:-1} CHIPS=${CHIPS:-4} ACCOUNT=${ACCOUNT:-default}

fill() {
  python3 -c 'import json, os, string, sys
text = string.Template(open("launch/jobset.yaml").read())
print(text.substitute(os.environ, ARGUMENTS=json.dumps(sys.argv[1:])), end="")' "$@"
}

if [[ -n $dry_run ]]; then
  echo "# kubectl apply -f -"
  fill "$@"
else
  fill "$@" | kubectl apply -f -
fi
