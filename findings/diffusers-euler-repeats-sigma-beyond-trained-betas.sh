#!/usr/bin/env bash
# diffusers 0.42.1: Euler takes fewer trained_betas than num_train_timesteps and wastes half its steps.
#
# The betas of a model that was trained with 500 steps belong to num_train_timesteps=500; with
# trained_betas alone the default of 1000 stays. Nothing compares the two. Euler and DPM-Solver++
# interpolate (numpy.interp), which repeats the last level for every timestep beyond: half of the steps
# go from a sigma to the same sigma and change nothing, while the network is told timesteps up to 999
# that it has never seen.
#
# Seen: of 10 steps 4 (Euler) and 5 (DPM-Solver++) begin and end at the highest sigma; with
# num_train_timesteps=500 none does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q diffusers==0.42.1 torch==2.13.0 numpy
"$folder/env/bin/python" - <<'PYTHON'
import diffusers
import numpy as np

betas = np.linspace(0.0002, 0.04, 500)


def wasted(kind, **options):
    scheduler = kind(trained_betas=betas, **options)
    scheduler.set_timesteps(10)
    print(f"{kind.__name__} {options}: sigmas {scheduler.sigmas.numpy().round(2)}")
    print("  timesteps", scheduler.timesteps.numpy().round())
    return int((np.diff(scheduler.sigmas.numpy()) == 0).sum())


print(f"diffusers {diffusers.__version__}")
euler, multistep = (
    diffusers.EulerDiscreteScheduler,
    diffusers.DPMSolverMultistepScheduler,
)
found = [wasted(kind) for kind in (euler, multistep)]
right = [wasted(kind, num_train_timesteps=500) for kind in (euler, multistep)]
print("steps that go nowhere:", found, "with num_train_timesteps=500:", right)
assert min(found) >= 4 and right == [0, 0], "this has changed"
PYTHON
