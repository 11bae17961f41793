"""How networks learn: noise and loss, optimizers, checkpoints, what is taught."""
