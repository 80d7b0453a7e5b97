"""What leaves bertlab: models in the formats of others."""
