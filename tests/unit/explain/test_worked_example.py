"""docs/worked_example.md against the numbers printed in "How does a LLM work?" (2025-11-11)."""

import torch

from docs.worked_example import TEXT, example_trace, numbers

IDS = [15496, 11, 314, 1101, 257, 3303, 2746, 11]
SECOND_COMMA = 7

EMBEDDING_CT = """
 0.17 -0.07  0.43 -0.28  0.10  0.67 -0.34  0.01
-0.35  0.30  0.09  0.57 -0.27 -0.07  0.09 -0.10
 0.70 -0.19 -0.23  0.11  0.37  0.10  0.58  0.09
-0.04  0.43  0.71 -0.40  0.26 -0.41  0.09 -0.07
-0.09 -0.03  0.02  0.66 -0.41  0.20 -0.19  0.19
 0.98 -0.28  0.02 -0.04  0.01  0.43  0.49  0.00"""
SCORES_TT = """
 0.3413 -0.1387 -0.0643 -0.0682  0.1973  0.0927  0.1700  0.0456
-0.1230  0.0702 -0.0236  0.1026 -0.0764 -0.1010  0.0156 -0.0185
-0.0665  0.0287  0.1111 -0.0206 -0.0385  0.1218 -0.1168 -0.0156
-0.0826  0.0840 -0.0230  0.1805 -0.0608 -0.0801  0.0822 -0.0212
 0.1862 -0.0820 -0.0383 -0.0545  0.1092  0.0463  0.0845  0.0267
 0.1363 -0.0594  0.1263 -0.0986  0.0804  0.2529 -0.0725  0.0095
 0.1695 -0.0360 -0.1261  0.1003  0.0892 -0.0895  0.2255  0.0204
 0.0527 -0.0303 -0.0057 -0.0385  0.0327  0.0208  0.0068  0.0090"""
WEIGHTS_TT = """
1      0      0      0      0      0      0      0
0.4519 0.5481 0      0      0      0      0      0
0.3036 0.3339 0.3626 0      0      0      0      0
0.2201 0.2600 0.2336 0.2863 0      0      0      0
0.2339 0.1789 0.1868 0.1838 0.2166 0      0      0
0.1763 0.1450 0.1745 0.1394 0.1667 0.1981 0      0
0.1602 0.1304 0.1192 0.1495 0.1478 0.1236 0.1694 0
0.1309 0.1205 0.1235 0.1195 0.1283 0.1268 0.1251 0.1253"""
HEADS_CT = """
 0.1500 -0.0309  0.1232  0.0177  0.0544  0.1789  0.0544  0.0761
-0.3300  0.0044  0.0332  0.1747  0.0371  0.0222  0.0468  0.0253
 0.6800  0.2196  0.0805  0.0900  0.1894  0.1595  0.2404  0.1960
-0.0300  0.2213  0.3917  0.1173  0.2208  0.0386  0.0867  0.0630
-0.0800 -0.0457 -0.0186  0.1818  0.0023  0.0826  0.0119  0.0538
 0.9500  0.2589  0.1971  0.1632  0.1431  0.2351  0.2689  0.2020"""
HALF_A_DIGIT = {"rtol": 0, "atol": 0.51e-4}


def test_numbers_of_the_article():
    found = example_trace()
    block = found.blocks[0]
    assert found.ids_T.tolist() == IDS, TEXT
    # the article gives each comma a vector of its own, which no table of embeddings does; the other columns are equal
    torch.testing.assert_close(
        found.embedding_TC[:SECOND_COMMA], numbers(EMBEDDING_CT).T[:SECOND_COMMA], rtol=0, atol=1e-6
    )
    torch.testing.assert_close(block.scores_HTT[0], numbers(SCORES_TT), **HALF_A_DIGIT)
    torch.testing.assert_close(block.weights_HTT[0], numbers(WEIGHTS_TT), **HALF_A_DIGIT)
    torch.testing.assert_close(torch.cat([*block.heads_HTD], dim=-1), numbers(HEADS_CT).T, **HALF_A_DIGIT)
