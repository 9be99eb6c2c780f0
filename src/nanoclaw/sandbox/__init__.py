"""The wall, seen from the host: what a box is given, what builds it, and how the host reads what a box wrote."""
