#!/usr/bin/env bash
# Train on spot TPUs: request a TPU, run, and request another one after a preemption.
#
#   ZONE=us-west4-a TYPE=v5litepod-16 BUCKET=my-runs launch/tpu_spot.sh [--dry-run] \
#       --config configs/sd15_dreambooth.py --workdir runs/dog
#
# A preempted TPU is deleted and created again, and the run resumes from the last checkpoint
# in BUCKET. Variables and mount are those of tpu_pod.sh. Run the script on a machine that
# stays on. If the run itself fails, the script exits and keeps the TPU.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/step.sh

need ZONE "the zone, such as us-west4-a"
need TYPE "the accelerator, such as v5litepod-16"
need BUCKET "the bucket mounted at runs/, without gs://"
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
    sleep "${SETTLE:-60}" # until a preemption is reported
  fi
  if [[ $status != 0 && $status != 75 && $(state) == ACTIVE ]]; then
    echo "personax: The run failed with status $status; the TPU $name was kept." >&2
    exit 1
  fi
  delete
  if [[ $status == 0 ]]; then
    exit 0
  fi
done
