"""``python -m gpt2lab.cli train ...``, the same as ``gpt2lab train ...``."""

from gpt2lab.cli.main import main

main()
