"""The command line `erase`."""
