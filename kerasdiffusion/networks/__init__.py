"""The networks of one model in memory: made, read, kept or given up, compiled."""
