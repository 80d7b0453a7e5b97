"""What a run leaves behind: its directory, checkpoints, metrics, timeline, Weights & Biases."""
