"""Attacks: on what a peer remembers of examples, before and after it forgot them, and by what it is asked to forget.

An attack's result is given beside that of the same attack on a world that never had the examples. That is its target,
and not 0.5: members and others may differ even for a model that never saw either.
"""
