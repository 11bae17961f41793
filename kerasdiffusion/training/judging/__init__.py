"""What judges pictures and models."""
