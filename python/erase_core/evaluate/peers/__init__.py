"""The peers: each adapts a language model to examples, answers questions, and unlearns examples by its own rule."""
