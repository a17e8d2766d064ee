"""Compare the runs of a sweep: python report.py sweep=runs/sweeps/NAME [baseline=NAME] [margin=0.01]"""

from gpt2lab.cli.main import run_command

if __name__ == "__main__":
    run_command("report")
