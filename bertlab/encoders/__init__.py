"""Encoders: from a batch of packed tokens to a hidden state for every token."""
