"""gpt2lab.runs.own_code: a run records the code of a class of the user's, and other code is named later."""

import hashlib
import importlib
import json
import logging

from gpt2lab.runs import Hardware, open_run_dir, warn_of_other_code
from gpt2lab.runs.own_code import own_code

CODE = "class Norm: ..."


def test_code_of_a_run_is_recorded_and_other_code_is_named(tmp_path, monkeypatch, caplog):
    module = tmp_path / "code_of_mine.py"
    module.write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("code_of_mine")
    model = {"n_layer": 2, "norm": {"name": "code_of_mine:Norm"}, "mlp": {"name": "gelu"}}
    run = tmp_path / "run"
    open_run_dir(run, {"model": model}, None, Hardware("cpu", 1))
    digest = hashlib.sha256(CODE.encode()).hexdigest()
    assert json.loads((run / "environment.json").read_text())["own_code"] == {"code_of_mine": digest}
    assert own_code({"norm": {"name": "not_imported:Norm"}}) == {"not_imported": None}

    with caplog.at_level(logging.WARNING):
        warn_of_other_code(run, model)
        assert not caplog.text
        module.write_text("class Norm: x = 1")
        warn_of_other_code(tmp_path / "nowhere", model)
        assert not caplog.text
        warn_of_other_code(run, model)
        assert f"trained with other code of code_of_mine (SHA-256 {digest[:12]}" in caplog.text
        caplog.clear()
        open_run_dir(run, {"model": model}, None, Hardware("cpu", 1))  # resumed with the new code
        warn_of_other_code(run, model)
        (run / "environment.2.json").write_text("{")
        warn_of_other_code(run, model)
        assert not caplog.text
