"""Files in and out: what may be read, and how much; what is written, whole or not."""
