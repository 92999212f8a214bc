"""Fine-tuning: a language model with a LoRA adapter, how it is trained, and trained adapters on disk."""
