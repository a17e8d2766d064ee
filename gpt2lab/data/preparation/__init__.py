"""A source's documents -> tokenized, split and written as shards."""
