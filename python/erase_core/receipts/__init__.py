"""Receipts of removals: one, a folder of them in a chain, signatures."""
