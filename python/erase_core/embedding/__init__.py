"""Embedding: turns texts into vectors, finds and loads embedding models, and computes projections."""
