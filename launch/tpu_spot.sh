#!/usr/bin/env bash
# A run on spot TPUs: asked for, run on, and asked for again when they are taken away.
#
#   ZONE=us-west4-a TYPE=v5litepod-16 BUCKET=my-runs launch/tpu_spot.sh [--dry-run] \
#       --config configs/sd15_dreambooth.py --workdir runs/dog
#
# A spot TPU does not come back: it is deleted and made anew, and the same command goes
# on from the last checkpoint in BUCKET. Variables and mount as in tpu_pod.sh; it runs on
# a machine of yours that stays on. A run that fails by itself ends it, and keeps the TPU.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/step.sh

need ZONE "the zone, such as us-west4-a"
need TYPE "the accelerator, such as v5litepod-16"
need BUCKET "the bucket that runs/ is on, without gs://"
name=${NAME:-personax}
queue=(gcloud compute tpus queued-resources)

state() {
  step "${queue[@]}" describe "$name" --zone "$ZONE" --format 'value(state.state)' \
    2>/dev/null || echo NONE
}

delete() {
  step "${queue[@]}" delete "$name" --zone "$ZONE" --force --quiet
}

while true; do
  if [[ -n $dry_run ]] || [[ $(state) == NONE ]]; then
    step "${queue[@]}" create "$name" --node-id "$name" --zone "$ZONE" \
      --accelerator-type "$TYPE" --runtime-version "${VERSION:-v2-alpha-tpuv5-lite}" --spot
  fi
  if [[ -n $dry_run ]]; then
    state
    launch/tpu_pod.sh --dry-run --existing "$@"
    delete
    exit 0
  fi
  until [[ $(state) =~ ^(ACTIVE|FAILED|SUSPENDING|SUSPENDED|NONE)$ ]]; do
    sleep 30
  done
  status=1
  if [[ $(state) == ACTIVE ]]; then
    status=0
    launch/tpu_pod.sh --existing "$@" || status=$?
    sleep "${SETTLE:-60}" # until a TPU that was taken away is said to be
  fi
  if [[ $status != 0 && $status != 75 && $(state) == ACTIVE ]]; then
    echo "personax: The run failed with status $status; the TPU $name is still there." >&2
    exit 1
  fi
  delete
  if [[ $status == 0 ]]; then
    exit 0
  fi
done
