"""What a model is made of; the published ones by name."""
