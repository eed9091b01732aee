"""Capture: the gate answers the calls that a policy names, each after its receipt."""
