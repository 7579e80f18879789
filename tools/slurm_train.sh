#!/usr/bin/env bash
# Trains on a slurm cluster: tools/slurm_train.sh PARTITION JOB CONFIG [ARGUMENTS OF train.py]
# GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), and SRUN_ARGS for anything else of srun's.
set -euo pipefail
if (( $# < 3 )); then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
partition=$1 job=$2 config=$3
shift 3
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
per_node=$(( per_node < gpus ? per_node : gpus ))
# shellcheck disable=SC2086  # SRUN_ARGS are several words
exec srun --partition "$partition" --job-name "$job" \
    --gres "gpu:$per_node" --ntasks "$gpus" --ntasks-per-node "$per_node" \
    --cpus-per-task "${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    python -u "$(dirname "$0")/train.py" "$config" --launcher slurm "$@"
