"""The rehearsal model: a stand-in for the model API, a child process without secrets.

The real agent CLI, its tools and the sandbox can be exercised with no key: this process speaks the streaming
Messages API and obeys a small language (language.py) instead of thinking. Everything it says is worked out from
the request alone; nothing is kept between two requests.

Reading order: __main__.py start and end -> server.py HTTP/1.1 -> api.py a request to an answer -> conversation.py
what the request says -> language.py the lines a person may write -> decide.py what to do next -> stream.py bytes.
"""
