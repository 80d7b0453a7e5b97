"""What a fit would do, before it does it: `bertlab plan`."""
