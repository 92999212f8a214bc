"""Texts to vectors: the embedding model, how it is found and loaded, projections."""
