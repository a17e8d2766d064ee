"""benchmarks.mfu: operations per token in both conventions, and shares of the peak."""

import pytest

from benchmarks import mfu


@pytest.mark.parametrize(
    ("shape", "ours", "llm_c"),
    [
        # worked out by hand: 6 (12 L C^2 + V C) + 12 L C T; 6 N + 6 L C T with N of 50,304 rows, biases and positions
        ("small", 854_438_400, 803_478_528),
        ("medium", 2_422_708_224, 2_280_222_720),
        ("large", 5_198_937_600, 4_927_656_960),
    ],
)
def test_operations_per_token_are_those_of_the_two_conventions(shape, ours, llm_c):
    case = {"shape": shape, "T": 1024}
    assert (mfu.operations(case), mfu.operations_llm_c(case)) == (ours, llm_c)


def test_utilization_is_a_share_of_the_peak():
    case = {"shape": "small", "T": 1024}
    found = mfu.utilization("step", "transformers", case, (400_000.0, 300_000.0), 989e12, 0.43)
    assert found.ours == pytest.approx(400_000 * 854_438_400 / 989e12)
    assert found.theirs == pytest.approx(0.75 * found.ours)
    assert found.ours_llm_c == pytest.approx(400_000 * 803_478_528 / 989e12)
    lines = mfu.table([found, found._replace(ours=0.44)], 989e12).splitlines()
    assert lines[0] == "Model FLOPs utilization, of 989 TFLOP/s:"
    assert lines[-2:] == [
        "| step | 34.6% | 43% not met | 32.5% | transformers | 25.9% |",
        "| step | 44.0% | 43% met | 32.5% | transformers | 25.9% |",
    ]
