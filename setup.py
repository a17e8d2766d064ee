"""Puts ``configs/`` into the wheel as ``gpt2lab/configs``; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["gpt2lab", "gpt2lab.*"]), "gpt2lab.configs"],
    package_dir={"gpt2lab.configs": "configs"},
    package_data={
        "gpt2lab": ["py.typed", "report/vendor/*", "report/assets/*", "explain/assets/*"],
        "gpt2lab.configs": ["**/*.yaml"],
    },
)
