"""The agents a runner can drive: `claude` (the CLI over stream-json) and `echo` (deterministic, for tests)."""
