"""Evaluate a model: python eval.py checkpoint=runs/...|gpt2|DIR [eval=tasks] [eval.text_file=book.txt]"""

from gpt2lab.cli.main import run_command

if __name__ == "__main__":
    run_command("eval")
