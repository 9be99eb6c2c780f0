"""Connectors to chat platforms, one file each; the protocol is base.py."""
