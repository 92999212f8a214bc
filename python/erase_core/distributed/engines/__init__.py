"""Engines: what starts shard holders on workers and carries messages to them. No engine is imported before it is used."""
