"""Show one forward pass step by step: python explain.py checkpoint=runs/... prompt="The state of" out=explain.html"""

from gpt2lab.cli.main import run_command

if __name__ == "__main__":
    run_command("explain")
