"""Steps of a trainer, one by one."""


def take_step(trainer, step):
    """Take one optimizer step; return its loss, gradient norm and learning rate, as in ``metrics.jsonl``."""
    result = trainer.launch_step(step)
    metrics = result.read()
    trainer.update.account_for(result, metrics)
    return metrics.to_dict()
