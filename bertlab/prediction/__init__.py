"""What happens after the fit: predictions as files."""
