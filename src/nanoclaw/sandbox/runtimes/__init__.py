"""What turns a SandboxSpec into a running box: one file per runtime, one protocol (`base.py`)."""
