"""The process inside the wall: it carries rows between the mailbox and the agent it drives.

Standard library, `contract` and `errors` only; every box pays for it. In reading order:
`__main__` the order of the start, `start` settings, limits and the agent's process, `main` the parts put together,
`loop` the turn, `mailbox` the two files, `prompt` what the agent reads, `answer` what it said, `turn` the bookkeeping,
`mcp` and `tools` what it may call, `providers` the agents it can drive.
"""
