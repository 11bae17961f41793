"""Faces of `StableDiffusion`: the command line, the server, the page, the bench."""
