"""What a model makes of its context: loss by position and by length of context."""
