"""The command `minicnn`, as a user calls it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import minicnn
from minicnn.cli import info, main, train
from minicnn.datasets import mnist


@pytest.fixture
def few_digits(monkeypatch: pytest.MonkeyPatch) -> train.Data:
    """The shipped sample, cut down to what trains in a second."""
    (x_train, y_train), (x_test, y_test) = mnist.load_sample()

    def load(name: str, folder: str | None) -> train.Data:
        pictures = [x[..., None].astype(np.float32) / 255 for x in (x_train[:320], x_test[:60])]
        return train.Data(pictures[0], y_train[:320], pictures[1], y_test[:60], tuple("0123456789"))

    monkeypatch.setattr(train, "load", load)
    return load("sample", None)


def run_train(folder: Path, *options: str) -> int:
    return main(["train", "--epochs", "2", "--output", str(folder), *options])


def test_train_prints_what_it_learned_and_leaves_everything_behind(
    tmp_path: Path, few_digits: train.Data, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_train(tmp_path) == 0
    told = capsys.readouterr().out
    assert "Total params: 93,322" in told
    assert "Test accuracy" in told
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.keras", "history.csv", "run.json", "curves.png", "confusion.png", "misread.png"}
    with open(tmp_path / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert set(rows[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names if name.endswith(".png"))


def test_the_same_seed_gives_the_same_model_and_another_seed_another(tmp_path: Path, few_digits: train.Data) -> None:
    weights = []
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        run_train(tmp_path / name, "--seed", seed, "--model", "mlp")
        weights.append(minicnn.saving.load_model(tmp_path / name / "model.keras").get_weights())
    for a, b, c in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_the_accuracy_told_is_that_of_the_saved_model(tmp_path: Path, few_digits: train.Data) -> None:
    run_train(tmp_path, "--optimizer", "adam", "--learning-rate", "0.003")
    told = json.loads((tmp_path / "run.json").read_text())
    model = minicnn.saving.load_model(tmp_path / "model.keras")
    read = model.predict(few_digits.x_test, verbose=0).argmax(axis=1)
    np.testing.assert_allclose(told["test_accuracy"], np.mean(read == few_digits.y_test), atol=1e-6)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.003)


def test_predict_reads_a_picture_of_a_digit(
    tmp_path: Path, few_digits: train.Data, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    run_train(tmp_path)
    model = minicnn.saving.load_model(tmp_path / "model.keras")
    expected = model.predict(few_digits.x_test[:1], verbose=0)[0]
    picture = tmp_path / "digit.png"
    Image.fromarray((few_digits.x_test[0, :, :, 0] * 255).astype(np.uint8)).save(picture)
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "model.keras"), str(picture), "--top", "1"]) == 0
    assert capsys.readouterr().out == f"{picture}  {expected.argmax()} {expected.max():.1%}\n"


def test_predict_names_a_file_that_is_no_picture(
    tmp_path: Path, few_digits: train.Data, capsys: pytest.CaptureFixture[str]
) -> None:
    run_train(tmp_path)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    assert main(["predict", str(tmp_path / "model.keras"), str(broken)]) == 2
    assert "broken.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--model", "first_convnt"], "Did you mean 'first_convnet'"),
        (["train", "--optimizer", "adm"], "Did you mean 'adam'"),
        (["train", "--backend", "refrence"], "Did you mean 'reference'"),
        (["predict", "nothing.keras", "x.png"], "no model file at nothing.keras"),
        (["gradcheck", "conv2"], "Did you mean 'conv2d'"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    arguments: list[str], message: str, few_digits: train.Data, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_gradcheck_prints_a_row_for_each_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", "max_pool2d"]) == 0
    told = capsys.readouterr().out
    assert told.count("right") == 4
    assert "4 cases, 0 failures" in told


def test_gradcheck_reports_a_wrong_gradient_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from minicnn.functional.elementwise import Exp

    monkeypatch.setattr(Exp, "backward", lambda self, gy: gy * 2.0)
    assert main(["gradcheck", "exp"]) == 1
    told = capsys.readouterr().out
    assert "WRONG" in told
    assert "gradcheck of exp: FAILED" in told


def test_info_names_versions_and_backends() -> None:
    lines = info.describe()
    assert lines["minicnn"] == minicnn.__version__
    assert lines["numpy"] == np.__version__
    assert lines["  reference"] == f"{len(minicnn.backend.kernel_names())} kernels of reference"


def test_info_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    assert "backend" in capsys.readouterr().out
