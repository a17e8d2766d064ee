"""lm-evaluation-harness's own command with gpt2lab's models, for its options (few-shot, logged samples, ...).

    python -m gpt2lab.cli.lm_eval --model gpt2lab --model_args checkpoint=runs/... --tasks hellaswag --batch_size 16

The harness has no entry points for models, so this module registers ours and then starts it.
"""

import json
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from lm_eval._cli import HarnessCLI
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.utils import setup_logging

from gpt2lab.cli.console import print_error
from gpt2lab.cli.main import USER_ERROR_STATUS
from gpt2lab.commands.evaluation import open_for_evaluation
from gpt2lab.config import EvalJob, RuntimeConfig, UserError, one_line
from gpt2lab.evaluation.tasks.lm_eval import HarnessModel
from gpt2lab.runtime import open_runtime

MODEL = "gpt2lab"
MODEL_ARGS = ("checkpoint", "device", "precision")
BATCH_SIZE = 16
"""where --batch_size is left out or auto"""


class CommandModel(HarnessModel):
    """A model opened from what follows --model_args: checkpoint=, device= and precision=."""

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> "CommandModel":
        """See ``lm_eval.api.model.LM``."""
        return cls.create_from_arg_obj(parse_model_args(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> "CommandModel":
        """See ``lm_eval.api.model.LM``."""
        options = {key: value for key, value in (additional_config or {}).items() if value is not None}
        if unknown := arg_dict.keys() - set(MODEL_ARGS):
            raise UserError(f"--model_args {min(unknown)}=: expected checkpoint=, device= or precision=")
        device = arg_dict.get("device", options.get("device", "auto"))
        job = EvalJob(runtime=RuntimeConfig(device=device, precision=arg_dict.get("precision", "auto")))
        batch_size = str(options.get("batch_size", BATCH_SIZE))
        loaded = open_for_evaluation(arg_dict.get("checkpoint"), job, open_runtime(job.runtime))
        return cls(loaded, int(batch_size) if batch_size.isdigit() else BATCH_SIZE)


def parse_model_args(text: str) -> dict[str, str]:
    """``checkpoint=A,device=B`` by key. Other commas are part of a value: a sweep's runs are called mlp=gelu,seed=1."""
    parts = re.split(rf",(?=(?:{'|'.join(MODEL_ARGS)})=)", text)
    return {key: value for key, _, value in (part.partition("=") for part in parts if part)}


def with_model_args_as_json(words: Sequence[str]) -> list[str]:
    """The words of a command line, with those after ``--model_args`` as JSON where they name a checkpoint of ours.

    The harness itself would cut a checkpoint's name at its commas, and read lr=3e-4 in it as the number 0.0003.
    """
    apart = [part for word in words for part in (word.split("=", 1) if word.startswith("--model_args=") else [word])]
    begin = next((i for i, word in enumerate(apart) if word in ("--model_args", "-a")), len(apart))
    end = next((i for i in range(begin + 1, len(apart)) if apart[i].startswith("-")), len(apart))
    given = parse_model_args(",".join(apart[begin + 1 : end]))
    return [*apart[: begin + 1], json.dumps(given), *apart[end:]] if "checkpoint" in given else list(words)


def with_own_defaults(arguments: Namespace) -> Namespace:
    """The arguments, with our device and batch size where neither they nor a --config file have one.

    The harness's own are cuda:0 and 1, also on a machine without CUDA.
    """
    config = getattr(arguments, "config", None)
    in_file = EvaluatorConfig.load_yaml_config(config) if config else {}
    given = {**in_file, **{key: value for key, value in vars(arguments).items() if value is not None}}
    own = {"device": "auto", "batch_size": str(BATCH_SIZE)} if given.get("model") == MODEL else {}
    return Namespace(**{**vars(arguments), **{key: value for key, value in own.items() if key not in given}})


def main() -> None:
    """Run lm_eval's command line."""
    LM.register(HarnessModel)
    register_model(MODEL)(CommandModel)
    setup_logging()
    command = HarnessCLI()
    sys.argv = with_model_args_as_json(sys.argv)
    arguments = command.parse_args()
    try:
        command.execute(with_own_defaults(arguments))
    except UserError as error:
        print_error(one_line(error))
        sys.exit(USER_ERROR_STATUS)


if __name__ == "__main__":
    main()
