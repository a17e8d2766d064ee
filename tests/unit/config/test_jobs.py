"""Every setting is checked where it is built, and the message says what to type."""

import dataclasses
import inspect

import pytest

from gpt2lab.config import (
    DATA_SOURCES,
    ContextConfig,
    CorpusConfig,
    EvalConfig,
    EvalJob,
    ExplainJob,
    MLPConfig,
    ModelConfig,
    NormConfig,
    OptimizerConfig,
    PositionsConfig,
    PrepareConfig,
    RuntimeConfig,
    SampleJob,
    SampleQualityConfig,
    SamplingConfig,
    ScheduleConfig,
    TasksConfig,
    TextFilesConfig,
    TokenizerConfig,
    TrainingConfig,
    TrainJob,
    UserError,
    from_dict,
    to_dict,
)
from gpt2lab.config.data import BACKEND_NAMES, PACKING_NAMES
from gpt2lab.config.evaluation import OPTIONS_OF_PART, PROTOCOL_NAMES
from gpt2lab.config.sweep import LAUNCHER_NAMES
from gpt2lab.config.training import LOGGER_NAMES, OPTIMIZER_NAMES, SCHEDULE_NAMES, TASK_NAMES
from gpt2lab.data.loading.sequences import PACKINGS
from gpt2lab.data.preparation.backends import BACKENDS
from gpt2lab.evaluation.parts import PARTS
from gpt2lab.evaluation.perplexity.protocols import PROTOCOLS
from gpt2lab.evaluation.tasks.tasks import TASKS
from gpt2lab.sweeps.launchers import LAUNCHERS
from gpt2lab.training.loggers import LOGGERS
from gpt2lab.training.optimizer import OPTIMIZERS
from gpt2lab.training.schedule import SCHEDULES


@pytest.mark.parametrize(
    ("build", "fragments"),
    [
        (lambda: ModelConfig(n_embd=30, n_head=4), ["n_embd=30", "n_head=4", "2 or 3 or 5"]),
        (lambda: ModelConfig(n_layer=0), ["model.n_layer=0", "at least 1"]),
        (lambda: ModelConfig(dropout=1.0), ["model.dropout=1.0", "dropout < 1"]),
        (lambda: ModelConfig(n_kv_head=0), ["model.n_kv_head=0", "at least 1, or null"]),
        (lambda: ModelConfig(n_kv_head=5), ["model.n_head=12", "model.n_kv_head=5", "4 or 6"]),
        (lambda: ModelConfig(n_kv_head=24), ["model.n_head=12", "model.n_kv_head=24", "12"]),
        (lambda: ModelConfig(vocab_multiple_of=0), ["model.vocab_multiple_of=0", "at least 1"]),
        (lambda: PositionsConfig(rope_fraction=0.0), ["model.positions.rope_fraction=0.0", "above 0 and up"]),
        (lambda: PositionsConfig(rope_fraction=1.5), ["model.positions.rope_fraction=1.5", "above 0 and up"]),
        (lambda: PositionsConfig(rope_fraction=float("nan")), ["model.positions.rope_fraction=nan"]),
        (lambda: PositionsConfig(rope_theta=0.0), ["model.positions.rope_theta=0.0", "above 0"]),
        (lambda: PositionsConfig("learned", rope_theta=5e5), ["rope_theta=500000.0: model/positions=learned ignores"]),
        (lambda: PositionsConfig("alibi", rope_fraction=0.5), ["rope_fraction=0.5", "try model/positions=rope"]),
        (lambda: NormConfig(eps=0.0), ["model.norm.eps=0.0", "1e-5"]),
        (lambda: MLPConfig(hidden_dim=0), ["model.mlp.hidden_dim=0", "or null"]),
        (lambda: TextFilesConfig(name=".."), ["data.name=..", "folder name"]),
        (lambda: TextFilesConfig(name="a/b"), ["data.name=a/b", "folder name"]),
        (lambda: TextFilesConfig(val_fraction=0), ["data.val_fraction=0", "0 < val_fraction < 1"]),
        (lambda: TextFilesConfig(packing="window"), ["data.packing=window", "did you mean windows?"]),
        (lambda: PrepareConfig(backend="rey"), ["prepare.backend=rey", "did you mean ray?"]),
        (lambda: OptimizerConfig(lr=-1.0), ["optimizer.lr=-1.0", "above 0"]),
        (lambda: OptimizerConfig(lr=1e9), ["optimizer.lr=1000000000.0", "up to 1000"]),
        (lambda: job(optimizer=OptimizerConfig(lr=0.5, weight_decay=2.0)), ["weight_decay=2.0: expected less", "= 2,"]),
        (lambda: OptimizerConfig(beta2=1.0), ["optimizer.beta2=1.0", "beta2 < 1"]),
        (lambda: ScheduleConfig(min_lr_ratio=1.5), ["schedule.min_lr_ratio=1.5"]),
        (lambda: ScheduleConfig("constant", min_lr_ratio=0.1), ["min_lr_ratio=0.1: schedule=constant ignores it"]),
        (lambda: ScheduleConfig("linear", decay_share=0.1), ["decay_share=0.1: schedule=linear ignores it"]),
        (lambda: TrainingConfig(), ["exactly one", "none", "training.max_steps=1000"]),
        (lambda: TrainingConfig(max_steps=5, max_tokens=7), ["max_steps=5", "max_tokens=7", "training.max_steps=null"]),
        (lambda: TrainingConfig(max_steps=0), ["training.max_steps=0", "above 0"]),
        (lambda: TrainingConfig(max_epochs=float("inf")), ["training.max_epochs=inf", "finite"]),
        (lambda: TrainingConfig(max_steps=5, z_loss=1e300), ["training.z_loss=1e+300", "z_loss <= 1"]),
        (lambda: TrainingConfig(max_steps=5, grad_clip=-1.0), ["training.grad_clip=-1.0"]),
        (lambda: RuntimeConfig(precision="int8"), ["runtime.precision=int8", "bf16"]),
        (lambda: SamplingConfig(temperature=-0.1), ["sampling.temperature=-0.1", "greedy"]),
        (lambda: SamplingConfig(temperature=float("nan")), ["sampling.temperature=nan"]),
        (lambda: SamplingConfig(top_p=0.0), ["sampling.top_p=0.0"]),
        (lambda: SamplingConfig(top_k=0), ["sampling.top_k=0"]),
        (lambda: SamplingConfig(temperature=0, top_k=5), ["sampling.top_k=5: greedy", "try sampling.top_k=null"]),
        (
            lambda: SamplingConfig(temperature=0, top_k=5, top_p=0.9),
            ["sampling.top_k=5: greedy", "try sampling.top_k=null sampling.top_p=null"],
        ),
        (lambda: SamplingConfig(temperature=0, top_p=0.5), ["sampling.top_p=0.5: greedy decoding"]),
        (lambda: SamplingConfig(batch_size=0), ["sampling.batch_size=0", "at least 1"]),
        (lambda: EvalConfig(stride=0), ["eval.stride=0"]),
        (lambda: CorpusConfig(file="a.txt"), ["eval.corpus.file=a.txt: eval/corpus=validation_split ignores it"]),
        (lambda: EvalConfig(text_file="a", corpus=CorpusConfig(first_byte=5)), ["first_byte=5", "ignores it"]),
        (lambda: EvalConfig(protocol="steam"), ["eval.protocol=steam", "mean stream?"]),
        (lambda: EvalConfig(parts=["taks"]), ["eval.parts=taks", "mean tasks?"]),
        (lambda: TasksConfig(names=["blmp"]), ["eval.tasks.names=blmp", "mean blimp?"]),
        (lambda: TrainJob(seed=-1), ["seed=-1"]),
        (lambda: TrainJob(resume="y", init_from="x"), ["resume=y", "init_from=x"]),
        (lambda: job(training=TrainingConfig(max_steps=9, sequence_length=2048)), ["2048", "model.block_size=1024"]),
        (lambda: job(training=TrainingConfig(max_steps=9, batch_tokens=1500)), ["batch_tokens=1500", "1024 or 2048"]),
        (lambda: job(training=TrainingConfig(max_steps=9, batch_tokens=100)), ["batch_tokens=100", "=1024 would be"]),
        (lambda: job(training=TrainingConfig(max_steps=9, batch_tokens=3072, micro_batch_size=2)), ["2048 or 4096"]),
        (lambda: job(tokenizer=TokenizerConfig("bytes", 257)), ["model.vocab_size=50257", "257 ids"]),
        (lambda: job(schedule=ScheduleConfig(warmup_steps=1000)), ["warmup_steps=1000", "1000 steps"]),
    ],
)  # fmt: skip
def test_a_wrong_value_names_itself_and_the_mend(build, fragments):
    with pytest.raises(UserError) as error:
        build()
    assert all(fragment in str(error.value) for fragment in fragments), error.value
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("names", "registry"),
    [
        (PACKING_NAMES, PACKINGS),
        (BACKEND_NAMES, BACKENDS),
        (OPTIMIZER_NAMES, OPTIMIZERS),
        (SCHEDULE_NAMES, SCHEDULES),
        (LOGGER_NAMES, LOGGERS),
        (TASK_NAMES, TASKS),
        (LAUNCHER_NAMES, LAUNCHERS),
        (PROTOCOL_NAMES, PROTOCOLS),
    ],
)
def test_names_known_to_a_config_are_those_of_the_registry(names, registry):
    """The configs import no torch, so they repeat the names; a wrong one is refused before any work."""
    assert names == tuple(registry)


def job(**groups):
    return TrainJob(**groups)


@pytest.mark.parametrize(
    ("settings", "world_size", "micro_batch_size"),
    [
        ({"batch_tokens": 8 * 1024}, 1, 8),
        ({"batch_tokens": 8 * 1024}, 4, 2),
        ({"batch_tokens": 16 * 1024}, 1, 8),
        ({"batch_tokens": 9 * 1024}, 1, 3),  # 9 sequences do not fit into 8,192 tokens, 3 divide them
        ({"batch_tokens": 512 * 1024}, 8, 8),
        ({"batch_tokens": 12 * 1024, "micro_batch_size": 4}, 3, 4),
        ({"batch_tokens": 4096, "sequence_length": 256}, 1, 16),
    ],
)
def test_micro_batch_follows_from_the_batch(settings, world_size, micro_batch_size):
    assert job(training=TrainingConfig(max_steps=1, **settings)).micro_batch_of(world_size) == micro_batch_size


def test_a_batch_that_processes_cannot_share():
    training = TrainingConfig(max_steps=1, batch_tokens=8 * 1024, micro_batch_size=2)
    with pytest.raises(
        UserError, match=r"8 sequences, which 3 processes .* of 2: .*batch_tokens=6144 or 12288 would do"
    ):
        job(training=training, runtime=RuntimeConfig(num_processes=3))


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        ({"max_steps": 7}, 7),
        ({"max_tokens": 8193}, 2),
        ({"max_tokens": 8192}, 1),
        ({"max_epochs": 2.5}, 31),
        ({"tokens_per_parameter": 20}, 13),
    ],
)
def test_length_of_the_run(length, steps):
    # 2.5 epochs of 100,000 tokens are 250,000 tokens: 30.5 batches of 8,192
    assert job(training=TrainingConfig(**length)).total_steps(epoch_tokens=100_000, parameters=5_000) == steps


@pytest.mark.parametrize("hundredths", [7, 14, 29, 110, 399])
@pytest.mark.parametrize("key", ["max_epochs", "tokens_per_parameter"])
def test_length_of_the_run_is_exact(key, hundredths):
    # 100 * 8,192 tokens are 100 batches, of which the run takes so many hundredths; 0.07 as a float is above 7/100
    training = TrainingConfig(**{key: float(f"{hundredths / 100:.2f}")})
    tokens = 100 * training.batch_tokens
    assert job(training=training).total_steps(epoch_tokens=tokens, parameters=tokens) == hundredths


def test_peak_learning_rate():
    assert job().peak_lr == pytest.approx(0.3 / 768)
    assert job(optimizer=OptimizerConfig(lr=0.5)).peak_lr == 0.5


def test_plain_values_and_back():
    built = job(model=ModelConfig(n_layer=3, dropout=0.1), training=TrainingConfig(max_epochs=0.5))
    values = to_dict(built)
    assert from_dict(TrainJob, values) == built
    values["model"]["positions"]["rope_theat"] = 1.0
    with pytest.raises(UserError, match="rope_theat: unknown key; did you mean rope_theta"):
        from_dict(TrainJob, values)


@pytest.mark.parametrize(
    ("vocab_size", "multiple", "rows"),
    [(50_257, 1, 50_257), (50_257, 128, 50_304), (50_257, 64, 50_304), (50_304, 128, 50_304), (3, 128, 128)],
)
def test_padded_vocabulary(vocab_size, multiple, rows):
    assert ModelConfig(vocab_size=vocab_size, vocab_multiple_of=multiple).padded_vocab_size == rows


def test_heads_of_keys_and_values():
    assert (ModelConfig().kv_heads, ModelConfig(n_kv_head=4).kv_heads, ModelConfig(n_kv_head=4).head_dim) == (12, 4, 64)


def test_every_field_says_what_it_means():
    for config in (
        ModelConfig,
        PositionsConfig,
        NormConfig,
        MLPConfig,
        TrainingConfig,
        OptimizerConfig,
        *DATA_SOURCES.values(),
        SamplingConfig,
        SampleQualityConfig,
        ContextConfig,
    ):
        source = "".join(inspect.getsource(base) for base in config.__mro__[:-1])
        for field in dataclasses.fields(config):
            lines = [line for line in source.splitlines() if line.startswith(f"    {field.name}: ")]
            described = [source.split(line + "\n")[1].lstrip().startswith('"""') or "Config" in line for line in lines]
            assert any(described), f"{config.__name__}.{field.name}"


def test_an_explanation_takes_one_process():
    for takes_several in (TrainJob, EvalJob, SampleJob):
        assert takes_several(runtime=RuntimeConfig(num_processes=2)).runtime.num_processes == 2
    with pytest.raises(UserError, match="runtime.num_processes=2: expected 1: only train.py, eval.py and sample.py"):
        ExplainJob(runtime=RuntimeConfig(num_processes=2))


@pytest.mark.parametrize(
    ("settings", "given"),
    [
        (
            {"tasks": TasksConfig(names=["blimp"])},
            r"eval.tasks.names=\['blimp'\]: eval.parts=\[perplexity\] ignores it",
        ),
        ({"parts": ["tasks"], "text_file": "a"}, r"eval.text_file=a: .*; try 'eval.parts=\[tasks,perplexity\]'"),
        ({"parts": ["tasks"], "corpus": CorpusConfig("ptb", "lines", "ptb.txt")}, "eval/corpus=ptb: "),
        ({"parts": ["context", "tasks"], "stride": 3}, "eval.stride=3: .*; expected perplexity among the parts"),
        ({"sample_quality": SampleQualityConfig(seed=1)}, "eval.sample_quality.seed=1: .*; expected sample_quality"),
    ],
)
def test_an_evaluation_refuses_options_that_no_part_of_it_reads(settings, given):
    with pytest.raises(UserError, match=f"^{given}"):
        EvalJob(eval=EvalConfig(**settings))
    EvalJob(eval=EvalConfig(**settings | {"parts": list(PARTS)}))
    assert OPTIONS_OF_PART.keys() == PARTS.keys()
    read = {option for options in OPTIONS_OF_PART.values() for option in options}
    assert {"parts", *read} == {field.name for field in dataclasses.fields(EvalConfig)}
