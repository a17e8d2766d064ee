"""What other programs, nanoGPT above all, call a setting or a model, and what it is called here."""

from collections.abc import Collection

OTHER_NAMES: dict[str, list[str]] = {
    # nanoGPT
    "always_save_checkpoint": ["training.checkpoint_every (in steps)"],
    "batch_size": ["training.batch_tokens (in tokens: sequences x model.block_size)"],
    "decay_lr": ["schedule=constant (no decay) or schedule=cosine"],
    "dtype": ["runtime.precision (bf16, fp16 or fp32)"],
    "eval_interval": ["training.eval_every (in steps)"],
    "eval_iters": ["training.eval_tokens (in tokens: iterations x sequences x model.block_size)"],
    "gradient_accumulation_steps": ["training.batch_tokens (in tokens: all sequences of a step x model.block_size)"],
    "learning_rate": ["optimizer.lr"],
    "log_interval": ["training.log_every (in steps)"],
    "lr_decay_iters": ["training.max_steps (the rate falls until the last step)"],
    "max_iters": ["training.max_steps"],
    "min_lr": ["schedule.min_lr_ratio (min_lr / learning_rate)"],
    "out_dir": ["run_dir", "checkpoint"],
    "start": ["prompt"],
    "wandb_log": ["logger=wandb"],
    "wandb_project": ["logger.project"],
    "wandb_run_name": ["logger.run_name"],
    "warmup_iters": ["schedule.warmup_steps"],
    # transformers, litgpt and others
    "context_length": ["model.block_size"],
    "d_model": ["model.n_embd"],
    "epochs": ["training.max_epochs"],
    "hidden_size": ["model.n_embd"],
    "max_grad_norm": ["training.grad_clip"],
    "max_length": ["sampling.max_new_tokens"],
    "max_lr": ["optimizer.lr"],
    "num_epochs": ["training.max_epochs"],
    "num_heads": ["model.n_head"],
    "num_layers": ["model.n_layer"],
    "steps": ["training.max_steps"],
    "warmup": ["schedule.warmup_steps"],
    "wd": ["optimizer.weight_decay"],
}
"""What to type, by the last part of a key: a key or group, and its unit where that differs. Of several the first that
the command has."""

OTHER_VALUES: dict[str, str] = {"model=gpt2": "model=gpt2_small", "model=gpt-2": "model=gpt2_small"}
"""files of configs/ by what other programs call them"""


def name_here(name: str, known: Collection[str]) -> str | None:
    """What to type for a setting that other programs call ``name``; None: nothing.

    Args:
        name: the last part of a key.
        known: keys and groups of the command.
    """
    return next((text for text in OTHER_NAMES.get(name, []) if text.partition(" ")[0].partition("=")[0] in known), None)
