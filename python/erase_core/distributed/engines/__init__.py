"""Engines: what starts shard holders on workers and carries messages to them. None is imported before it is used."""
