"""Generate text: python sample.py checkpoint=runs/... prompt="The state of" sampling.temperature=0.8"""

from gpt2lab.cli.main import run_command

if __name__ == "__main__":
    run_command("sample")
