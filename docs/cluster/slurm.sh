#!/usr/bin/env bash
# A Ray cluster for the length of a Slurm job, and mfm_tune on it. Every argument goes to mfm_tune.run:
#
#     sbatch --nodes=4 docs/cluster/slurm.sh search_spaces/table2.py --storage /shared/runs --data gta=/shared/gta ...
#
# Submit it where this project lies, on a disk that all nodes share, with its environment active. When the time is up,
# or the job is pre-empted and requeued, the same command goes on where it was.
#SBATCH --job-name=mfm_tune
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

port=${RAY_PORT:-6379}
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN # srun hands the environment on, so that all nodes and the driver know it

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=$(srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" hostname --all-ip-addresses | awk '{print $1}')
resources=(--num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}")

steps=()
driver=
finish() {
    kill "${steps[@]}" 2>/dev/null || true
    wait "${steps[@]}" 2>/dev/null || true
}
trap finish EXIT
trap '[ -n "$driver" ] && kill -TERM "$driver"' TERM INT # trials in progress keep their checkpoints

srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" \
    ray start --head --node-ip-address="$address" --port="$port" --include-dashboard=false "${resources[@]}" --block &
steps+=($!)
until (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; do
    kill -0 "${steps[0]}" || { echo "The head of Ray did not start on ${nodes[0]}." >&2 && exit 1; }
    sleep 1
done
others=$((${#nodes[@]} - 1))
if [ "$others" -gt 0 ]; then
    srun --nodes="$others" --ntasks="$others" --exclude="${nodes[0]}" \
        ray start --address="$address:$port" "${resources[@]}" --block &
    steps+=($!)
fi

# mfm_tune asks each node that is there whether it sees the storage, the code and the data: so all should be there.
python - "$address:$port" "${#nodes[@]}" <<'PYTHON'
import sys, time

import ray

end = time.monotonic() + 180
alive = 0
while alive < int(sys.argv[2]) and time.monotonic() < end:
    time.sleep(1)
    try:
        ray.init(address=sys.argv[1], log_to_driver=False, logging_level="CRITICAL", ignore_reinit_error=True)
        alive = sum(node["Alive"] for node in ray.nodes())
    except ConnectionError:
        continue  # the head is not ready yet
print(f"{alive} of {sys.argv[2]} nodes are there", flush=True)
PYTHON

python -m mfm_tune.run "$@" --address "$address:$port" &
driver=$!
status=0
wait "$driver" || status=$?
while kill -0 "$driver" 2>/dev/null; do # the first wait ends when a signal comes, the driver a moment later
    status=0
    wait "$driver" || status=$?
done
exit "$status"
