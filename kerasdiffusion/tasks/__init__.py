"""`StableDiffusion`, and a page for each task."""
