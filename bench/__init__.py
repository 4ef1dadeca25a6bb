"""What it costs, beside what one would use instead.

``python -m bench [NAME …] [--quick]`` prints a table and writes ``bench/results.json``. Each file holds the names of
one subject; `peers/` one file for each thing to compare with. Nothing here is a test: it says how fast, never whether.
"""
