"""Where models and data come from: a local path, a hub id, or a wheel of the package index (`packaged:`)."""
