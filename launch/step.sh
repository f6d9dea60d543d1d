# Shared functions, sourced by the other scripts. With --dry-run as the first argument,
# commands are printed instead of run.
# shellcheck shell=bash

dry_run=""
if [[ ${1:-} == --dry-run ]]; then
  dry_run=1
  shift
fi

# Run a command, or print it with shell quoting.
step() {
  if [[ -z $dry_run ]]; then
    "$@"
    return
  fi
  local word line=""
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=@,+~-]+$ ]] || word=${word@Q}
    line+="$word "
  done
  echo "${line% }"
}

# need NAME "description": print a one-line error and exit with status 2 if NAME is unset.
need() {
  if [[ -z ${!1:-} ]]; then
    echo "personax: $1 is not set: $2." >&2
    exit 2
  fi
}
