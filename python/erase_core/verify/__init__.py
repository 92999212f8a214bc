"""Verification of a store: a second implementation of the model, checks of all data, and a search of the files."""
