"""The cluster: notary; scheduler, healing and placement wait for their issues."""
