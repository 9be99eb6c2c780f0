"""`nanoclaw`, the command."""
