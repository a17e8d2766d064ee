"""Every setting of gpt2lab: one dataclass a group, one line of meaning a field, checked when it is built.

The YAML files under ``configs/`` fill these classes (``compose.py`` does it through Hydra), and the same classes
are the Python API: ``ModelConfig(n_layer=2, n_head=2, n_embd=32)``. A value that cannot work raises ``UserError``
at construction, before any file is written. This package imports the standard library only.
"""

from gpt2lab.config.data import (
    DATA_SOURCES,
    DataConfig,
    HubConfig,
    JsonlFilesConfig,
    MixtureConfig,
    ParquetFilesConfig,
    PrepareConfig,
    PythonStdlibConfig,
    StateOfTheUnionConfig,
    TextFilesConfig,
)
from gpt2lab.config.errors import (
    STOP_SIGNALS,
    RankFailedError,
    StoppedError,
    UserError,
    check,
    check_divides,
    check_kind,
    choose,
    did_you_mean,
    not_installed,
    one_line,
    stop_signals,
)
from gpt2lab.config.evaluation import CorpusConfig, EvalConfig, TasksConfig
from gpt2lab.config.explain import ExplainJob
from gpt2lab.config.jobs import EvalJob, ExportJob, PrepareJob, SampleJob, TrainJob
from gpt2lab.config.model import IGNORE_INDEX, MLPConfig, ModelConfig, NormConfig, PositionsConfig
from gpt2lab.config.plain import from_dict, to_dict
from gpt2lab.config.report import ReportJob
from gpt2lab.config.runtime import RuntimeConfig
from gpt2lab.config.sample_quality import ContextConfig, SampleQualityConfig
from gpt2lab.config.sampling import DecodingConfig, SamplingConfig
from gpt2lab.config.sweep import SweepConfig
from gpt2lab.config.tokenizer import TokenizerConfig
from gpt2lab.config.training import LoggerConfig, OptimizerConfig, SamplesConfig, ScheduleConfig, TrainingConfig

__all__ = [
    "DATA_SOURCES",
    "IGNORE_INDEX",
    "STOP_SIGNALS",
    "ContextConfig",
    "CorpusConfig",
    "DataConfig",
    "DecodingConfig",
    "EvalConfig",
    "EvalJob",
    "ExplainJob",
    "ExportJob",
    "HubConfig",
    "JsonlFilesConfig",
    "LoggerConfig",
    "MLPConfig",
    "MixtureConfig",
    "ModelConfig",
    "NormConfig",
    "OptimizerConfig",
    "ParquetFilesConfig",
    "PositionsConfig",
    "PrepareConfig",
    "PrepareJob",
    "PythonStdlibConfig",
    "RankFailedError",
    "ReportJob",
    "RuntimeConfig",
    "SampleJob",
    "SampleQualityConfig",
    "SamplesConfig",
    "SamplingConfig",
    "ScheduleConfig",
    "StateOfTheUnionConfig",
    "StoppedError",
    "SweepConfig",
    "TasksConfig",
    "TextFilesConfig",
    "TokenizerConfig",
    "TrainJob",
    "TrainingConfig",
    "UserError",
    "check",
    "check_divides",
    "check_kind",
    "choose",
    "did_you_mean",
    "from_dict",
    "not_installed",
    "one_line",
    "stop_signals",
    "to_dict",
]
