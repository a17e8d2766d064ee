"""Zero-shot tasks, gpt2lab's own and those of lm-evaluation-harness."""
