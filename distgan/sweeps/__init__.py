"""Sweeps without their engine: what is tried, when a trial is given up, what came of it.

Nothing here knows Ray or a method; `distgan/cluster/tune.py` plays a sweep.
"""
