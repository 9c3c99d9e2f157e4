#!/usr/bin/env bash
# Runs an experiment on all hosts of a Cloud TPU slice, step by step or at once.
#
#   experiments/launch_tpu_vm.sh STEP --name=NAME --zone=ZONE [FLAG ...] [-- EXPERIMENT [ARGUMENT ...]]
#
#   STEP   create   makes the slice
#          copy     copies what is committed here to every host
#          mount    shows the bucket to every host as ~/runs, where all must see the folder of the run
#          install  makes a virtual environment on every host
#          run      starts the experiment on every host; one that was stopped goes on
#          follow   shows what host 0 says, until Ctrl-C; the run does not end with it
#          stop     asks the run to end: it saves first
#          delete   gives the slice back
#          up       create, copy, mount (where there is a bucket), install, run and follow, one after the other
#
#   --type=v5litepod-8            what slice it is, as `gcloud compute tpus accelerator-types list` names it
#   --version=v2-alpha-tpuv5-lite the system of its hosts, see cloud.google.com/tpu/docs/runtimes
#   --bucket=NAME                 a Cloud Storage bucket for the run; needed where the slice has more than one host
#   --project=PROJECT             in place of gcloud's own
#   --spot                        cheaper, and may be taken away at any time: then create, ... and run again
#   --dry-run                     prints the commands and runs none
#
#   experiments/launch_tpu_vm.sh up --name=mine --zone=us-west4-a --bucket=my-runs -- \
#     clip --workdir=runs/clip --config=configs/clip.py
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "error: $1; --help shows how it is called" >&2
  exit 2
}

steps='create copy mount install run follow stop delete up'
step=${1:-}
if [ "$step" = --help ] || [ "$step" = -h ]; then
  sed -n '2,/^set /p' "$0" | sed -e '$d' -e 's/^# \{0,1\}//'
  exit 0
fi
[[ " $steps " == *" $step "* && -n "$step" ]] || fail "found step '$step', expected one of $steps"
shift

name='' zone='' type=v5litepod-8 version=v2-alpha-tpuv5-lite bucket='' project='' spot='' dry='' experiment=()
while [ $# -gt 0 ]; do
  case "$1" in
    --name=?*) name=${1#*=} ;;
    --zone=?*) zone=${1#*=} ;;
    --type=?*) type=${1#*=} ;;
    --version=?*) version=${1#*=} ;;
    --bucket=?*) bucket=${1#*=} ;;
    --project=?*) project=${1#*=} ;;
    --spot) spot=--spot ;;
    --dry-run) dry=yes ;;
    --) shift; experiment=("$@"); break ;;
    *) fail "found '$1', expected --name=, --zone=, --type=, --version=, --bucket=, --project=, --spot, --dry-run or --" ;;
  esac
  shift
done
[ -n "$name" ] || fail 'found no --name=NAME'
[ -n "$zone" ] || fail 'found no --zone=ZONE'
if [ "$step" = run ] || [ "$step" = up ]; then
  [ ${#experiment[@]} -gt 0 ] || fail "found no experiment, expected '-- EXPERIMENT --workdir=DIR ...'"
  [ -f "experiments/${experiment[0]}.py" ] || fail "found no experiments/${experiment[0]}.py"
fi
where=(--zone="$zone" ${project:+--project="$project"})

call() {  # call COMMAND...: runs it, or prints it as it could be typed
  if [ -n "$dry" ]; then
    local word words=()
    for word in "$@"; do
      if [[ "$word" =~ ^[A-Za-z0-9_./:=,@+-]+$ ]]; then words+=("$word"); else words+=("${word@Q}"); fi
    done
    echo "${words[*]}"
  else
    "$@"
  fi
}

on() {  # on WORKER COMMAND: a line of shell on one host, or on all
  call gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker="$1" --command="$2"
}

do_create() {
  call gcloud compute tpus tpu-vm create "$name" "${where[@]}" --accelerator-type="$type" --version="$version" $spot
}

do_copy() {
  local packed=${TMPDIR:-/tmp}/$name-mmjax.tar.gz
  call git archive --format=tar.gz --output="$packed" HEAD
  call gcloud compute tpus tpu-vm scp "$packed" "$name:mmjax.tar.gz" "${where[@]}" --worker=all
  on all 'mkdir -p mmjax && tar -xzf mmjax.tar.gz -C mmjax'
}

do_mount() {
  [ -n "$bucket" ] || fail 'found no --bucket=NAME, which is what is mounted'
  on all "mkdir -p runs mmjax && (mountpoint -q runs || gcsfuse --implicit-dirs $(printf %q "$bucket") runs) && ln -sfn ~/runs mmjax/runs"
}

do_install() {
  local python='(command -v python3.11 || sudo apt-get install -q -y python3.11 python3.11-venv)'
  on all "cd mmjax && $python && python3.11 -m venv .venv && .venv/bin/pip install -q -r requirements-tpu.txt"
}

do_run() {
  local arguments
  arguments=$(printf '%q ' "${experiment[@]:1}")
  on all "cd mmjax && nohup setsid .venv/bin/python -m experiments.${experiment[0]} --hosts=auto ${arguments}> run.log 2>&1 < /dev/null & sleep 1"
}

do_follow() {
  on 0 'tail -n +1 -F mmjax/run.log'
}

do_stop() {
  on all "pkill -TERM -f '[e]xperiments\\.' || true"
}

do_delete() {
  call gcloud compute tpus tpu-vm delete "$name" "${where[@]}" --quiet
}

if [ "$step" = up ]; then
  do_create
  do_copy
  if [ -n "$bucket" ]; then do_mount; fi
  do_install
  do_run
  do_follow
else
  "do_$step"
fi
