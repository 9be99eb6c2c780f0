"""NanoClaw, a personal AI assistant on your own machine. THE MAP, in reading order.

(being drawn: one line per file)
"""
