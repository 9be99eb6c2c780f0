"""The data path, a file per stage, in the order a message takes: see the map in nanoclaw/__init__.py."""
