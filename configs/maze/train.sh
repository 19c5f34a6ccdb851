#!/usr/bin/env bash
# A world from nothing: record, train, export. What is done is left alone and what was interrupted goes on, so run it
# again after an interruption, or elsewhere with the folder runs/ taken along.
#   configs/maze/train.sh          the packaged world, in runs/ (worldenv info maze: hours per stage)
#   configs/maze/train.sh maze128  128 x 96 pixels and twice the parameters, in runs/maze128: for a GPU; tried for two
#                                  steps of every stage, not yet trained
set -euo pipefail
cd "$(dirname "$0")/../.."
recipe=${1:-maze}
configs=configs/$recipe runs=runs
[ "$recipe" = maze ] || runs=runs/$recipe
export OMP_WAIT_POLICY=passive
cores=$(python -c 'import os; print(os.cpu_count() or 1)')
processes=$(python -c 'import os, torch; n = torch.cuda.device_count() or os.cpu_count() or 1; print(max(k for k in (1, 2, 4, 8) if k <= n))')

stage() {  # STAGE NAME OPTIONS
    if [ -f "$runs/$2/world.toml" ]; then
        echo "$runs/$2 is there"
    else
        worldenv train "$1" --config "$configs/$2.toml" --out "$runs/$2" --resume "${@:3}"
    fi
}

worldenv record --workers "$cores" --config "$configs/heldout.toml" --out "$runs/heldout"
worldenv record --workers "$cores" --config "$configs/record.toml" --out "$runs/train"
stage vae vae
stage decoder decoder --init "$runs/vae"
stage bidirectional bidirectional --init "$runs/decoder" --processes "$processes"
stage causal causal --init "$runs/bidirectional" --processes "$processes"
stage memory memory --init "$runs/causal" --processes "$processes"
stage memory memory_final --init "$runs/memory" --processes "$processes"
stage memory memory_cached --init "$runs/memory_final" --processes "$processes"
stage memory memory_more --init "$runs/memory_cached" --processes "$processes"
stage teacher teacher --init "$runs/memory_more" --processes "$processes"
stage context_forcing context_forcing --init "$runs/memory_more" --teacher "$runs/teacher" --processes "$processes"
stage heads heads --init "$runs/context_forcing"
worldenv export --world "$runs/heads" --weights "worldenv/worlds/$recipe" --clips 64
# Not packaged (docs/training-log.md): a rolling window, finer tokens, and a display decoder (both of maze alone), from
# recordings of record_display.toml in runs/display_train and of heldout_display.toml in runs/display_heldout.
# stage rolling rolling --init "$runs/context_forcing" --teacher "$runs/teacher" --processes "$processes"
# stage memory memory_fine --init "$runs/memory_cached" --processes "$processes"
# stage display display --init "$runs/heads"
# stage display display_sharp --init "$runs/display"
