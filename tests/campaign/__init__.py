"""An attack on Simfer: killed at every point, fed with nonsense, out of room; what comes of it is counted.

The whole takes about an hour: `pytest -m campaign -s`. A twin of some seconds runs with the other tests.
"""
