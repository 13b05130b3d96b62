#!/usr/bin/env bash
# Several nodes under Slurm: sbatch --nodes 8 slurm-nodes.sh
# Edit the part between the lines. The job saves a checkpoint before its time limit and requeues itself
# until training is finished, also on another number of nodes.
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
shared=${SHARED:-$HOME/scriven}   # a folder that all nodes share
text=$shared/corpus
run=$shared/runs/nodes
train=(train "$text" --size 7B --budget 144Gtokens --out "$run")
# shellcheck source=/dev/null
source "$shared/venv/bin/activate"
# export NCCL_SOCKET_IFNAME=ib0   # if NCCL picks a slower network interface
# ----------------------------------------------------------------------------------------------

# rendezvous on the first node; two jobs on the same node need two ports
mapfile -t names < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 20000))

# Slurm signals this shell five minutes before the time limit; training saves and exits with 143
ending=0
trap 'ending=1; kill -TERM "$training" || true' USR1

# one torchrun per node, which starts one process per GPU
srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-8}" \
    --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "${names[0]}:$port" \
    --max-restarts 3 --shutdown-timeout 240 \
    -m scriven "${train[@]}" &
training=$!

status=0
wait "$training" || status=$?
if [ "$ending" = 1 ]; then
    wait "$training" || true   # the signal interrupted the first wait
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$status"
