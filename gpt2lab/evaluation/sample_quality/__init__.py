"""Samples of a model beside what humans wrote: how likely, how repetitive, how diverse."""

from gpt2lab.evaluation.sample_quality.evaluate import check_sample_quality, evaluate_sample_quality

__all__ = ["check_sample_quality", "evaluate_sample_quality"]
