#!/usr/bin/env bash
# A world from nothing: record, train, export. Every command goes on where it stopped, so run it again after an
# interruption, or elsewhere with the folder runs/ taken along.
#   configs/maze/train.sh          the packaged world, in runs/ (worldenv info maze: hours per stage)
#   configs/maze/train.sh maze128  128 x 96 pixels and twice the parameters, in runs/maze128: for a GPU, not yet run
set -euo pipefail
cd "$(dirname "$0")/../.."
recipe=${1:-maze}
configs=configs/$recipe runs=runs
[ "$recipe" = maze ] || runs=runs/$recipe
export OMP_WAIT_POLICY=passive
cores=$(python -c 'import os; print(os.cpu_count() or 1)')
processes=$(python -c 'import os, torch; n = torch.cuda.device_count() or os.cpu_count() or 1; print(max(k for k in (1, 2, 4, 8) if k <= n))')

stage() {  # STAGE NAME BEFORE ...
    worldenv train "$1" --config "$configs/$2.toml" --init "$runs/$3" --out "$runs/$2" --resume "${@:4}"
}

worldenv record --workers "$cores" --config "$configs/heldout.toml" --out "$runs/heldout"
worldenv record --workers "$cores" --config "$configs/record.toml" --out "$runs/train"
worldenv train vae --config "$configs/vae.toml" --out "$runs/vae" --resume
stage decoder decoder vae
stage bidirectional bidirectional decoder --processes "$processes"
stage causal causal bidirectional --processes "$processes"
stage memory memory causal --processes "$processes"
stage memory memory_final memory --processes "$processes"
stage memory memory_cached memory_final --processes "$processes"
stage teacher teacher memory_cached --processes "$processes"
stage context_forcing context_forcing memory_cached --teacher "$runs/teacher" --processes "$processes"
worldenv export --world "$runs/context_forcing" --weights "worldenv/worlds/$recipe"
# Not packaged: a rolling window, and finer tokens (TRAINING_LOG.md).
# stage rolling rolling context_forcing --teacher "$runs/teacher" --processes "$processes"
# stage memory memory_fine memory_cached --processes "$processes"
