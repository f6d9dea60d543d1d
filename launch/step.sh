# Sourced by the other scripts: --dry-run as the first argument prints every command.
# shellcheck shell=bash

dry_run=""
if [[ ${1:-} == --dry-run ]]; then
  dry_run=1
  shift
fi

# Runs a command, or prints it as a shell would read it.
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

# One sentence, and status 2, where a variable is not set: need NAME "what it is".
need() {
  if [[ -z ${!1:-} ]]; then
    echo "personax: $1 is not set: $2." >&2
    exit 2
  fi
}
