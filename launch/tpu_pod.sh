#!/usr/bin/env bash
# Train on all workers of a TPU VM (one host or a pod). Creates the TPU if it does not exist.
#
#   ZONE=us-west4-a TYPE=v5litepod-16 BUCKET=my-runs launch/tpu_pod.sh [--dry-run] \
#       --config configs/sd15_dreambooth.py --workdir runs/dog
#
# All workers share one work directory: runs/ is BUCKET, mounted by gcsfuse, which the image
# must provide (cloud.google.com/storage/docs/gcsfuse-install). The bucket needs a
# hierarchical namespace, because finished checkpoints are renamed. The project is the
# default of gcloud. Optional: NAME (personax), VERSION of the runtime. With --existing as
# the first argument, no TPU is created. Delete the TPU after the run:
#
#   gcloud compute tpus tpu-vm delete NAME --zone ZONE
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/step.sh

need ZONE "the zone, such as us-west4-a"
need TYPE "the accelerator, such as v5litepod-16"
need BUCKET "the bucket mounted at runs/, without gs://"
name=${NAME:-personax}
tpu=(gcloud compute tpus tpu-vm)

if [[ ${1:-} == --existing ]]; then
  shift
elif [[ -n $dry_run ]] || ! "${tpu[@]}" describe "$name" --zone "$ZONE" >/dev/null 2>&1; then
  step "${tpu[@]}" create "$name" --zone "$ZONE" --accelerator-type "$TYPE" \
    --version "${VERSION:-v2-alpha-tpuv5-lite}"
fi

on_all() {
  step "${tpu[@]}" ssh "$name" --zone "$ZONE" --worker=all --command "$1"
}

step bash -c "git ls-files -z | tar -czf /tmp/$name.tgz --null -T -"
step "${tpu[@]}" scp "/tmp/$name.tgz" "$name:" --zone "$ZONE" --worker=all
# uv installs Python 3.12; the images have an older version.
on_all "set -e
mkdir -p personax && tar -xzf $name.tgz -C personax && cd personax && mkdir -p runs
mountpoint -q runs || gcsfuse --implicit-dirs $BUCKET runs
python3 -m pip install -q --user uv && export PATH=\$HOME/.local/bin:\$PATH
uv venv -q --allow-existing --python 3.12 .venv && uv pip install -q -e '.[tpu]'"
# jax detects the other workers. Status 75: stopped before the last step.
on_all "cd personax && .venv/bin/python -m personax.train --stopped_status=75 ${*@Q}"
