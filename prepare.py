"""Tokenize a corpus into shards: python prepare.py data=text_files data.files=[book.txt] data.name=book"""

from gpt2lab.cli.main import run_command

if __name__ == "__main__":
    run_command("prepare")
