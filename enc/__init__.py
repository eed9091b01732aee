"""The cluster: notary, scheduler, healing, placement. Empty until its first issue."""
