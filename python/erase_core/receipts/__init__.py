"""Receipts of removals: their contents, the folder that holds them, the chain that they form, and signatures."""
