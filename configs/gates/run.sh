#!/usr/bin/env bash
# Which mazes, and which size? Two gates of equal trainings from random weights, decided by figures that were named
# before any was seen. What is done is left alone; run it again after an interruption.
# Alone on two cores about 2 h 20 min each: 12 min of recording, 15 of the VAE, 2 x 45 of the transformers, the scores.
#   configs/gates/run.sh style   classic against plain mazes, 64 x 48, one VAE of both
#   configs/gates/run.sh size    64 x 48 and cells of 8 pixels against 128 x 96 and cells of 16, of the style that won
# The figures, 16 mazes from seed 970000, 12 chunks from one start view: action_score of worldplay_rendered divided by
# the VAE's; frechet_pose_features_unseen of it divided by the VAE's; seen_psnr of it less the VAE's. A style or size
# wins that is better on the first two; if they disagree, the one whose sheets (contact.png) a viewer who is told
# nothing calls rooms more often.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_WAIT_POLICY=passive
style=${STYLE:-plain} cores=$(nproc)

record() {  # CONFIG FOLDER OPTIONS; of training mazes as many clips as the stages read
    worldenv record --workers "$cores" --config "configs/maze/$1.toml" --out "$2" "${@:3}"
}
stage() {  # STAGE CONFIG NAME OPTIONS
    [ -f "runs/gates/$3/world.toml" ] || worldenv train "$1" --config "configs/gates/$2.toml" --out "runs/gates/$3" --resume "${@:4}"
}
score() {  # NAME
    worldenv eval rendering --world "runs/gates/$1" --worlds 16 --first-seed 970000 --out "runs/gates/scores/$1"
}

for kind in plain classic; do
    record "record_$kind" "runs/recordings/$kind" --clips 416
    record "heldout_$kind" "runs/heldout_recordings/$kind"
done
stage vae vae vae
stage heads heads heads --init runs/gates/vae
case ${1:-style} in
style)
    for kind in plain classic; do
        stage memory "$kind" "$kind" --init runs/gates/heads --processes "$cores"
        score "$kind"
    done ;;
size)
    record "record_$style" runs/recordings128 --spec.width 128 --spec.height 96 --clips 400
    record "heldout_$style" runs/heldout_recordings128 --spec.width 128 --spec.height 96 --clips 32
    stage vae vae16 vae16
    stage heads heads heads16 --init runs/gates/vae16 --data runs/recordings128 --heldout runs/heldout_recordings128
    stage memory large large --init runs/gates/heads16 --processes "$cores"
    score large ;;
esac
