#!/usr/bin/env bash
# One node under Slurm: sbatch slurm-one-node.sh
# Edit the part between the lines. The job saves a checkpoint before its time limit and requeues itself
# until training is finished.
#SBATCH --job-name=scriven
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

# ----------------------------------------------------------------------------------------------
shared=${SHARED:-$HOME/scriven}   # a folder that outlives the job
text=$shared/corpus
run=$shared/runs/one-node
train=(train "$text" --size 1B --budget 21.3Gtokens --out "$run")
# shellcheck source=/dev/null
source "$shared/venv/bin/activate"
# ----------------------------------------------------------------------------------------------

# Slurm signals this shell five minutes before the time limit; training saves and exits with 143
ending=0
trap 'ending=1; kill -TERM "$training" || true' USR1

srun --kill-on-bad-exit=1 torchrun --standalone \
    --nproc-per-node "${SLURM_GPUS_ON_NODE:-8}" --max-restarts 3 --shutdown-timeout 240 \
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
