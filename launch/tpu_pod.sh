#!/usr/bin/env bash
# A run on every worker of a TPU VM, of one host or a pod, made where there is none:
#
#   ZONE=us-west4-a TYPE=v5litepod-16 BUCKET=my-runs launch/tpu_pod.sh [--dry-run] \
#       --config configs/sd15_dreambooth.py --workdir runs/dog
#
# All workers need one work directory: runs/ is BUCKET, mounted by gcsfuse, which the
# image must have (cloud.google.com/storage/docs/gcsfuse-install); its namespace must be
# hierarchical, since checkpoints are renamed when they are whole. The project is
# gcloud's own. NAME and VERSION (the runtime's) have defaults; --existing as the first
# argument makes no TPU. It stays afterwards:
#
#   gcloud compute tpus tpu-vm delete NAME --zone ZONE
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/step.sh

need ZONE "the zone, such as us-west4-a"
need TYPE "the accelerator, such as v5litepod-16"
need BUCKET "the bucket that runs/ is on, without gs://"
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
# The images' own Python is too old; uv brings one.
on_all "set -e
mkdir -p personax && tar -xzf $name.tgz -C personax && cd personax && mkdir -p runs
mountpoint -q runs || gcsfuse --implicit-dirs $BUCKET runs
python3 -m pip install -q --user uv && export PATH=\$HOME/.local/bin:\$PATH
uv venv -q --allow-existing --python 3.12 .venv && uv pip install -q -e '.[tpu]'"
# jax finds the other workers by itself. 75: told to stop before the end.
on_all "cd personax && .venv/bin/python -m personax.train --stopped_status=75 ${*@Q}"
