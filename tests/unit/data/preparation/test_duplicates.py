"""gpt2lab.data.preparation.duplicates against a set."""

import random

from gpt2lab.data.preparation.duplicates import SeenDocuments


def test_first_of_their_kind_as_a_set_would_have_it(tmp_path):
    generator, known, seen = random.Random(2), set(), SeenDocuments(tmp_path / "digests")
    with seen:
        for _ in range(200):
            digests = [bytes([generator.randrange(3), *[0] * 14, generator.randrange(99)]) for _ in range(9)]
            expected = [digest not in known and digest not in digests[:i] for i, digest in enumerate(digests)]
            assert seen.add(b"".join(digests)).tolist() == expected
            known.update(digests)
