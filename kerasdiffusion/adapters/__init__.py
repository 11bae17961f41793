"""What is added to a model's weights or words: LoRA and its kin, embeddings."""
