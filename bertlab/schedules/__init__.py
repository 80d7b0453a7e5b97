"""Learning-rate schedules: pure functions from progress in [0, 1] to a factor of the rate, one a file."""
