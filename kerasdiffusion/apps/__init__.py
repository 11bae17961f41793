"""Thin faces on `StableDiffusion`: the command line and the benchmark."""
