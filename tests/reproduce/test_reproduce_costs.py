"""What a table takes, as its help tells it; and the base by the name of the model that ships."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusers import UNet2DConditionModel

from humansd.cli import main
from humansd.reproduce.runs import find_inputs
from humansd.reproduce.table1 import ROWS, SHORT, Table1Settings
from humansd.reproduce.table2 import LOSSES, Table2Settings
from humansd.reproduce.table3 import ROWS as DATA
from humansd.reproduce.table3 import Table3Settings
from humansd.reproduce.table4 import Table4Settings

BATCH = int(SHORT["batch_size"])
SAMPLES = {
    "table1": [(len(ROWS) - 1) * Table1Settings().steps * BATCH],
    "table2": [len(LOSSES) * Table2Settings().steps * BATCH, Table2Settings().head_steps * BATCH],
    "table3": [len(DATA) * Table3Settings().steps * BATCH, Table3Settings().generated],
    "table4": [Table4Settings().steps * BATCH],
}


@pytest.mark.parametrize("table", SAMPLES)
def test_the_help_of_a_table_tells_what_it_takes(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["reproduce", table, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "Hours of training = samples / (3600 x your samples a second)" in told
    assert all(f"{count:,}" in told for count in SAMPLES[table])


def test_pocket_names_the_base_that_a_table_makes_by_itself(tmp_path: Path) -> None:
    settings = Table1Settings(base_model="pocket", data="data", test="test")
    base, *_ = find_inputs(settings, tmp_path)
    assert Path(base).parent == tmp_path
    config = UNet2DConditionModel.load_config(base, subfolder="unet")
    assert config["in_channels"] == config["out_channels"]
