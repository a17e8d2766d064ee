"""What only a sweep has, refused where ``-m`` is missing: one run without it would look like the study."""

from collections.abc import Iterable, Sequence

from gpt2lab.config import UserError
from gpt2lab.shell import command_line


def refuse_sweep_settings(typed: Sequence[str]) -> None:
    """Raise ``UserError`` for a key ``sweep.*``.

    Args:
        typed: the arguments of ``train.py``, without ``-m``.
    """
    for argument in typed:
        if argument.startswith("sweep."):
            raise UserError(
                f"{argument}: a setting of sweeps; expected -m before it; type {command_line('train', '-m', *typed)}"
            )


def refuse_study(params: Iterable[str], typed: Sequence[str]) -> None:
    """Raise ``UserError`` for an experiment with an axis that has no single value on the command line.

    The jobs of a sweep name the experiment, too, and give each of its axes.

    Args:
        params: keys of ``hydra.sweeper.params``: the axes of the experiment and its ``sweep.*``.
        typed: the arguments of ``train.py``, without ``-m``.
    """
    given = {argument.lstrip("+").partition("=")[0] for argument in typed}
    axes = [key for key in params if not key.startswith("sweep.")]
    if missing := [key for key in axes if key not in given]:
        experiment = next((text for text in typed if text.startswith("+experiment=")), "the experiment")
        raise UserError(
            f"{experiment}: a study of {', '.join(axes)}; expected -m, or one value of each; type "
            f"{command_line('train', '-m', *typed)}, or add {' '.join(f'{key}=VALUE' for key in missing)} for one run"
        )
