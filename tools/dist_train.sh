#!/usr/bin/env bash
# Trains on several GPUs of this machine, or on its CPU: tools/dist_train.sh CONFIG PROCESSES [ARGUMENTS OF train.py]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT, the same command on each.
set -euo pipefail
if (( $# < 2 )); then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
config=$1 processes=$2
shift 2
exec python -m torch.distributed.run \
    --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}" --nproc-per-node "$processes" \
    --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
