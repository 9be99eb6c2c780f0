"""The resources of `ncl`."""
