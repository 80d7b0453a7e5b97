"""From raw text to a token store, and from a token store to examples: numpy and plain files, without a trainer."""
