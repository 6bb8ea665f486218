"""Golden files: what the Python and the JavaScript side agree on, byte by byte.

`python -m tests.golden` writes them anew from the Python side; `tests/unit/test_golden.py` and `js/tests` hold both
sides to them. A change of a file is a change of the contract between the two: look at its diff.
"""
