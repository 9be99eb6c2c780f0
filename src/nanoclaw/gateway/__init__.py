"""The only way out of a box and the only reader of secrets: a process of its own (architecture sections 5 and 10).

`main.py` is the process, `client.py` the host's side of it, `control.py` the words between them.
"""
