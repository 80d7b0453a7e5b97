"""How parameters are handed to an optimizer: groups, weight decay, rates by layer."""
