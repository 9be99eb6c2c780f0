"""Nouns and pure rules: no files, no sockets, no clock of their own."""
