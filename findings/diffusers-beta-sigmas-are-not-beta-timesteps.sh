#!/usr/bin/env bash
# diffusers 0.42.1: use_beta_sigmas spreads noise levels by Beta(0.6, 0.6), not timesteps.
#
# "Beta Sampling is All You Need" (Lee et al. 2024), which the option names, draws timesteps from the
# Beta distribution; ComfyUI's and Forge's "beta" take the sigmas of such timesteps. diffusers puts
# the quantiles between the smallest and the largest sigma instead. Since sigma grows much faster
# than the timestep, most steps are then spent where there is hardly a picture yet: of 10 steps with
# Stable Diffusion's noise 8 are above sigma 2, where the paper's timesteps give 5, and 0.72 is
# followed by 0.03.
#
# Seen: 8 of 10 sigmas above 2; of timesteps by the paper 5.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q diffusers==0.42.1 torch==2.13.0 scipy numpy
"$folder/env/bin/python" - <<'PYTHON'
import diffusers
import numpy as np
import scipy.stats

scheduler = diffusers.EulerDiscreteScheduler(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    use_beta_sigmas=True,
)
scheduler.set_timesteps(10)
sigmas = scheduler.sigmas[:10].numpy()
kept = scheduler.alphas_cumprod.numpy()
quantiles = scipy.stats.beta.ppf(1 - np.linspace(0, 1, 10), 0.6, 0.6)
timesteps = np.rint(quantiles * 999).astype(int)
paper = np.sqrt((1 - kept[timesteps]) / kept[timesteps])
print(f"diffusers {diffusers.__version__}: {sigmas.round(2)}\nof timesteps: {paper.round(2)}")
found = int((sigmas > 2).sum()), int((paper > 2).sum())
print(f"above 2: {found[0]}, of timesteps {found[1]}")
assert found == (8, 5), "this has changed"
PYTHON
