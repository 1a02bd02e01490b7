"""What a run prints: nothing, one line an epoch, a bar on a terminal; and the table of summary()."""

from __future__ import annotations

import contextlib
import io
import re

import numpy as np
import pytest

from minicnn import Input, Model, Sequential, layers, optimizers

X, Y = np.ones((8, 2)), np.ones(8)


def model() -> Sequential:
    made = Sequential([Input((2,)), layers.Dense(1, kernel_initializer="zeros")])
    made.compile(optimizers.SGD(0.0), "mse", metrics=["mae"])
    return made


# --------------------------------------------------------------------------------------------------- progress


@pytest.mark.parametrize("verbose", ["auto", 1, 2])
def test_off_a_terminal_there_is_one_plain_line_an_epoch(
    capsys: pytest.CaptureFixture[str], verbose: str | int
) -> None:
    model().fit(X, Y, epochs=2, validation_data=(X, 3 * Y), verbose=verbose)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(
        r"Epoch 2/2 - [\d.]+m?s - [\d,]+ samples/s - "
        r"loss: 1\.0000 - mae: 1\.0000 - val_loss: 9\.0000 - val_mae: 3\.0000",
        lines[1],
    )


def test_verbose_0_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    made = model()
    made.fit(X, Y, epochs=2, validation_data=(X, Y), verbose=0)
    made.evaluate(X, Y, verbose=0)
    made.predict(X, verbose=0)
    assert capsys.readouterr().out == ""


def test_evaluate_prints_a_line_and_predict_none(capsys: pytest.CaptureFixture[str]) -> None:
    made = model()
    made.evaluate(X, Y)
    assert re.fullmatch(r"Evaluate - .* - loss: 1\.0000 - mae: 1\.0000\n", capsys.readouterr().out)
    made.predict(X)
    assert capsys.readouterr().out == ""


def test_where_the_number_of_rows_is_unknown_the_rate_is_a_time_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    model().fit(iter([(X, Y)] * 3))
    assert re.search(r" - [\d.e+]+ ms/step - loss", capsys.readouterr().out)


class Terminal(io.StringIO):
    """Output that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "140")
    for switch in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(switch, raising=False)
    return Terminal()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text)


def test_on_a_terminal_a_live_bar_shows_loss_rate_and_time_left_and_leaves_a_line(terminal: Terminal) -> None:
    with contextlib.redirect_stdout(terminal):
        model().fit(X, Y, batch_size=1, epochs=2)
    text = plain(terminal.getvalue())
    assert re.search(r"Epoch 1/2 [━╸╺ ]+1/8 .*s left  [\d,]+ samples/s  loss 1\.0000  mae 1\.0000", text)
    lines = [line for line in text.splitlines() if re.match(r"Epoch \d/2  [\d.]+m?s", line)]
    assert len(lines) == 2
    assert lines[1].rstrip().endswith("loss 1.0000  mae 1.0000")


def test_an_error_leaves_the_terminal_in_order(terminal: Terminal) -> None:
    made = model()
    made.train_step = lambda data: 1 / 0  # type: ignore[method-assign]
    with contextlib.redirect_stdout(terminal), pytest.raises(ZeroDivisionError):
        made.fit(X, Y)
    hidden, shown = terminal.getvalue().rfind("\x1b[?25l"), terminal.getvalue().rfind("\x1b[?25h")
    assert 0 <= hidden < shown


def test_verbose_2_prints_plain_lines_on_a_terminal_too(terminal: Terminal) -> None:
    with contextlib.redirect_stdout(terminal):
        model().fit(X, Y, verbose=2)
    assert terminal.getvalue() == plain(terminal.getvalue())
    assert terminal.getvalue().startswith("Epoch 1/1 - ")


# --------------------------------------------------------------------------------------------------- summary


def first_convnet() -> Sequential:
    """SYSTEMS A2."""
    return Sequential(
        [
            Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ],
        name="digits",
    )


def test_summary_shows_shapes_and_parameters_of_each_layer(capsys: pytest.CaptureFixture[str]) -> None:
    first_convnet().summary()
    out = capsys.readouterr().out
    rows = re.findall(r"│ (\w+) \((\w+)\) +│ (\(.*?\)) +│ +([\d,]+) │", out)
    assert [row[1:] for row in rows] == [
        ("Conv2D", "(None, 26, 26, 32)", "320"),
        ("MaxPooling2D", "(None, 13, 13, 32)", "0"),
        ("Conv2D", "(None, 11, 11, 64)", "18,496"),
        ("MaxPooling2D", "(None, 5, 5, 64)", "0"),
        ("Conv2D", "(None, 3, 3, 64)", "36,928"),
        ("Flatten", "(None, 576)", "0"),
        ("Dense", "(None, 64)", "36,928"),
        ("Dense", "(None, 10)", "650"),
    ]
    assert out.startswith('Model: "digits"')
    assert " Total params: 93,322 (364.54 KB)" in out
    assert "\x1b" not in out


def test_summary_tells_trainable_from_not(capsys: pytest.CaptureFixture[str]) -> None:
    made = Sequential([Input((4,)), layers.Dense(3), layers.BatchNormalization()])
    made.layers[0].trainable = False
    made.summary(show_trainable=True)
    out = capsys.readouterr().out
    assert " Trainable params: 6 (24 B)" in out
    assert " Non-trainable params: 21 (84 B)" in out
    assert re.search(r"dense \(Dense\).*│ +no +│", out)
    assert re.search(r"batch_normalization .*│ +yes +│", out)


def test_summary_of_an_unbuilt_model_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    Sequential([layers.Dense(3)]).summary()
    assert re.search(r"dense \(Dense\) +│ \? +│ \? \(unbuilt\)", capsys.readouterr().out)


def test_summary_of_a_branched_model_shows_connections_and_nested_layers() -> None:
    x, z = Input((3,), name="x"), Input((3,), name="z")
    shared = layers.Dense(3, name="shared")
    inner = Sequential([Input((3,)), layers.Dense(2, name="within")], name="inner")
    made = Model([x, z], layers.Concatenate(name="joined")([shared(x), inner(shared(z))]))
    lines: list[str] = []
    made.summary(print_fn=lines.append, expand_nested=True)
    text = "\n".join(lines)
    assert re.search(r"joined \(Concatenate\) +│ \(None, 5\) +│ +0 │ shared\[0\], inner", text)
    assert re.search(r"shared \(Dense\) .*│ x, z", text)
    assert re.search(r"│   within \(Dense\) +│ \(None, 2\) +│ +8 │", text)


def test_summary_of_a_plain_stack_has_no_connections() -> None:
    lines: list[str] = []
    first_convnet().summary(print_fn=lines.append)
    assert "Connected to" not in "\n".join(lines)


def test_line_length_bounds_the_table() -> None:
    lines: list[str] = []
    first_convnet().summary(line_length=60, print_fn=lines.append)
    assert max(map(len, lines)) <= 60
    assert any("18,496" in line for line in lines)


def test_summary_of_a_subclassed_model_after_its_first_call(capsys: pytest.CaptureFixture[str]) -> None:
    class Net(Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x: object) -> object:
            return self.dense(x)

    net = Net()
    net.summary()
    assert "(unbuilt)" in capsys.readouterr().out
    net(np.zeros((5, 4)))
    net.summary()
    assert re.search(r"dense \(Dense\) +│ \(None, 3\) +│ +15 │", capsys.readouterr().out)
