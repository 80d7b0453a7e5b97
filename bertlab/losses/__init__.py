"""Losses of a sequence, their reduction to a step, and the weights of classes, one a file."""
