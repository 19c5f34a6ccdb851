#!/bin/sh
# Does the picture matter? PPO that sees, and the same with all other observations, three seeds each, trained in the
# simulator and tested there and in the generated world. Goes on where it was interrupted; about an hour for each policy
# on two cores. Fixed beforehand: who does not see earns at most half of what who sees does, in both.
set -e
steps=${STEPS:-200000}
for seed in 0 1 2; do
  for arm in "ObjectNav image goal" "ObjectNav goal" "ImageNav image goal_image" "ImageNav goal_image"; do
    set -- $arm
    task=$1
    shift
    worldenv-agents train ppo --env "worldenv/${task}Sim-v0" --obs-mode dict --obs-keys "$@" --steps "$steps" \
      --seed "$seed" --resume --out "runs/pixels/$task-$*-$seed"
  done
done
for task in ObjectNav ImageNav; do
  for folder in "runs/pixels/$task"-*; do
    worldenv-agents eval "ppo:$folder" --env "worldenv/$task-v0" --twin --episodes 64 --out "$folder/scores.json"
  done
done
