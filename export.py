"""Write a model for transformers: python export.py checkpoint=runs/... out=DIR"""

from gpt2lab.cli.main import run_command

if __name__ == "__main__":
    run_command("export")
