"""Samples of a model beside what humans wrote: how likely, how repetitive, how diverse."""

from gpt2lab.evaluation.sample_quality.evaluate import sampling_section

__all__ = ["sampling_section"]
