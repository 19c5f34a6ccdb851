#!/usr/bin/env bash
# A world of hands from nothing, in runs/hand: record, train, read, score (docs/hands.md: hours);
# `train.sh hand1`, in runs/hand1, from the same recordings: one whose steps are single latents.
# `train.sh more`, in runs/more, goes on from the packaged world: its VAE and the head that reads objects are kept.
# What is done is left alone and what was interrupted goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."
asked=${1:-hand}
recipe=${asked/#more/hand}
configs=configs/$recipe runs=runs/$asked
export OMP_WAIT_POLICY=passive
cores=$(python -c 'import os; print(os.cpu_count() or 1)')
processes=$(python -c 'import os, torch; n = torch.cuda.device_count() or os.cpu_count() or 1; print(max(k for k in (1, 2, 4) if k <= n))')

stage() {  # STAGE NAME OPTIONS
    if [ -f "$runs/$2/world.toml" ]; then
        echo "$runs/$2 is there"
    else
        worldenv train "$1" --config "$configs/$2.toml" --out "$runs/$2" --resume "${@:3}"
    fi
}

for task in place lift push; do
    worldenv record --workers "$cores" --config "configs/hand/heldout_$task.toml" --out "runs/hand/heldout/$task"
    worldenv record --workers "$cores" --config "configs/hand/record_$task.toml" --out "runs/hand/train/$task"
done
if [ "$asked" = more ]; then
    stage memory more --init worldenv/worlds/hand --processes "$processes"
    ln -sfn more "$runs/memory"
else
    stage vae vae
    stage heads object --init "$runs/vae"  # it looks at pictures alone, so that what follows can be read while it is trained
    stage causal causal --init "$runs/object" --processes "$processes"
    stage memory memory --init "$runs/causal" --processes "$processes"
fi
stage consistency_distill distil --init "$runs/memory" --processes "$processes"
stage heads depth --init "$runs/distil"
worldenv eval manipulation --world "$runs/depth" --recording "runs/hand/heldout/place" --out "$runs/eval/place"
