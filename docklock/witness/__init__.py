"""Witnesses: cosign the checkpoints of others' logs, ask others to cosign ours, find forks."""
