#!/usr/bin/env bash
# launch/jobset.yaml, filled in and applied; --dry-run prints it instead:
#
#   IMAGE=… BUCKET=my-runs ACCELERATOR=tpu-v5-lite-podslice TOPOLOGY=4x4 HOSTS=4 \
#       launch/jobset.sh [--dry-run] --config configs/sd15_dreambooth.py --workdir /runs/dog
#
# IMAGE holds this repository as its working directory, with `pip install .[tpu]` done.
# HOSTS are those of one slice. NAME, SLICES (1), CHIPS (4 to a host) and ACCOUNT (the
# Kubernetes service account, default) may be set.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/step.sh

need IMAGE "a Docker image with personax in it"
need BUCKET "the bucket that /runs is on, without gs://"
need ACCELERATOR "the node pool's, such as tpu-v5-lite-podslice"
need TOPOLOGY "one slice's, such as 4x4"
need HOSTS "how many hosts one slice has"
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
