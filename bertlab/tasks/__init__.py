"""LightningModules: an encoder and a head trained for one kind of task, one a file."""
