#!/usr/bin/env bash
# The packaged world `maze`, from nothing: record, train, and leave the world in runs/context_forcing.
# Every command goes on where it stopped, so run it again after an interruption.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_WAIT_POLICY=passive
processes=$(python -c 'import os; print(max(n for n in (1, 2, 4, 8) if n <= (os.cpu_count() or 1)))')
worldenv record --config configs/maze/heldout.toml --out runs/heldout
worldenv record --config configs/maze/record.toml --out runs/train
worldenv train vae --config configs/maze/vae.toml --out runs/vae --resume
worldenv train decoder --config configs/maze/decoder.toml --init runs/vae --out runs/decoder --resume
worldenv train bidirectional --processes "$processes" --config configs/maze/bidirectional.toml --init runs/decoder --out runs/bidirectional --resume
worldenv train causal --processes "$processes" --config configs/maze/causal.toml --init runs/bidirectional --out runs/causal --resume
worldenv train memory --processes "$processes" --config configs/maze/memory.toml --init runs/causal --out runs/memory --resume
worldenv train memory --processes "$processes" --config configs/maze/memory_final.toml --init runs/memory --out runs/memory_final --resume
worldenv train memory --processes "$processes" --config configs/maze/memory_cached.toml --init runs/memory_final --out runs/memory_cached --resume
worldenv train teacher --processes "$processes" --config configs/maze/teacher.toml --init runs/memory_cached --out runs/teacher --resume
worldenv train context_forcing --processes "$processes" --config configs/maze/context_forcing.toml --init runs/memory_cached --teacher runs/teacher --out runs/context_forcing --resume
worldenv export --world runs/context_forcing --weights worldenv/worlds/maze
# Not packaged: a rolling window (not yet run), and finer tokens (TRAINING_LOG.md).
# worldenv train rolling --processes "$processes" --config configs/maze/rolling.toml --init runs/context_forcing --teacher runs/teacher --out runs/rolling --resume
# worldenv train memory --processes "$processes" --config configs/maze/memory_fine.toml --init runs/memory_cached --out runs/memory_fine --resume
