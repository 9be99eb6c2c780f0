"""Words both sides of the wall share. Standard library only; mounted read-only in every box."""
