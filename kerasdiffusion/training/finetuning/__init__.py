"""`fit()` for Stable Diffusion: what is taught, and the model that is taught."""
