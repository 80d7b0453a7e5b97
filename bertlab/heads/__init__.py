"""Heads: from what an encoder gives to the answers of a task. Plain torch."""
