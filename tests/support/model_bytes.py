"""The bytes of model files: with the checksum that belongs to them, and forged."""

from __future__ import annotations

import random
from collections.abc import Iterator

from blake3 import blake3


def sealed(body: bytes) -> bytes:
    """A file with the checksum of its body."""
    return body + blake3(body).digest()


def forgeries(data: bytes, count: int) -> Iterator[bytes]:
    """Bodies with fields of 1 to 8 bytes set to extremes, bytes flipped, parts cut, doubled and moved."""
    rng, body = random.Random(0), data[:-32]
    extremes = [b"\0", b"\1", b"\xff", b"\x7f", b"\x80"]
    for _ in range(count):
        forged = bytearray(body)
        for _ in range(rng.choice([1, 1, 2, 4])):
            a, width = rng.randrange(len(forged)), rng.choice([1, 2, 4, 8])
            b = rng.randrange(len(forged))
            change = rng.randrange(5)
            if change == 0:
                forged[a : a + width] = rng.choice(extremes) * width
            elif change == 1:
                forged[a : a + width] = rng.choice([0, 1, 2, 3, 2**15, 2**31, 2**16]).to_bytes(8, "little")[:width]
            elif change == 2:
                forged[a] ^= 1 << rng.randrange(8)
            elif change == 3:
                forged[a : a + width] = forged[b : b + width]
            else:
                forged[a : a + rng.choice([0, width])] = forged[b : b + rng.choice([0, width])]
        yield bytes(forged)
