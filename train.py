"""Train a model: python train.py model=gpt2_medium model/positions=rope data=text_files ..."""

from gpt2lab.cli.main import run_command

if __name__ == "__main__":
    run_command("train")
