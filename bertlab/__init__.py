"""bertlab: a BERT-type encoder through many optimisation steps, in training and in prediction."""

__version__ = "0.1.0"
