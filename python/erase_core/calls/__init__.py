"""What the calls of `Erase` do: the facade documents them, here they are carried out."""
