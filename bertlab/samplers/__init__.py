"""Which rows go into which optimizer step and micro-batch: sharded over ranks, seeded by epoch, resumable."""
