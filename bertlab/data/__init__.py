"""Lightning data modules, one a file, and the reading, checking, splitting and tokenising they share."""
