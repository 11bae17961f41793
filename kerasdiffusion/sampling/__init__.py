"""Sampling: noise schedules, samplers as tables, guidance and the loop."""
