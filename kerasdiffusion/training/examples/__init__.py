"""Pictures and captions of your own, as batches."""
