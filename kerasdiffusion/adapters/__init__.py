"""What is added to a model's weights or words: embeddings."""
