"""The work behind the calls of `Erase`. For their documentation, see erase.py.

Most functions take an `OpenStore`. The caller holds its lock, unless no other thread can have it yet (opening.py,
recovering.py).
"""
