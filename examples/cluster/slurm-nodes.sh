#!/usr/bin/env bash
# Several computers under Slurm: sbatch --nodes 8 slurm-nodes.sh
# Edit what stands between the lines. The job saves before its time is over, and comes back by itself
# until the training is finished, also on another number of computers.
#SBATCH --job-name=scriven
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

# ----------------------------------------------------------------------------------------------
shared=${SHARED:-$HOME/scriven}   # a folder that all computers see
text=$shared/corpus
run=$shared/runs/nodes
train=(train "$text" --size 7B --budget 144Gtokens --out "$run")
# shellcheck source=/dev/null
source "$shared/venv/bin/activate"
# export NCCL_SOCKET_IFNAME=ib0   # where the fast network has another name than the first one
# ----------------------------------------------------------------------------------------------

# the processes find each other at the first computer; two jobs there need two ports
mapfile -t names < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 20000))

# Slurm tells this shell five minutes before the end; the training saves and leaves with 143
ending=0
trap 'ending=1; kill -TERM "$training" || true' USR1

# one torchrun on each computer, which starts a process for each of its GPUs
srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-8}" \
    --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "${names[0]}:$port" \
    --max-restarts 3 --shutdown-timeout 240 \
    -m scriven "${train[@]}" &
training=$!

status=0
wait "$training" || status=$?
if [ "$ending" = 1 ]; then
    wait "$training" || true   # the first wait was cut short by the signal
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$status"
