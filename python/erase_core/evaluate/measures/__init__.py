"""What is measured of any peer: cost, distance to peers that never had the examples, and break-even."""
