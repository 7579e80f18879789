#!/usr/bin/env bash
# Tests on several GPUs of this machine, or on its CPU: tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [ARGUMENTS OF test.py]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT, the same command on each.
set -euo pipefail
if (( $# < 3 )); then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
config=$1 checkpoint=$2 processes=$3
shift 3
exec python -m torch.distributed.run \
    --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}" --nproc-per-node "$processes" \
    --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}" \
    "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
