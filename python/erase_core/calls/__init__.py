"""The work behind the calls of `Erase`. For their documentation, see erase.py."""
