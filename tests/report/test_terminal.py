import io
import re

import pytest
from rich.console import Console

from tiny_ablation.report.terminal import Screen

NULL = "as often below zero as above"


def _console(stream, terminal=False, width=80):
    colours = "standard" if terminal else None
    return Console(file=stream, force_terminal=terminal, width=width, highlight=False, color_system=colours, _environ={})


class _Show:
    """A screen whose two streams can be read."""

    def __init__(self, *, terminal=False, width=80, quiet=False):
        self._streams = io.StringIO(), io.StringIO()
        out, err = (_console(stream, terminal, width) for stream in self._streams)
        self.screen = Screen(quiet=quiet, out=out, err=err)

    def table(self, rows, primary="logit_diff", **changes):
        about = {"primary": primary, "null": NULL, "family_size": 540, "resolution": None, "confidence": 0.95}
        self.screen.table({"top": rows, **about, **changes})

    @property
    def out(self):
        return self._streams[0].getvalue()

    @property
    def err(self):
        return self._streams[1].getvalue()


def _all(show, fake, tmp_path):
    table = fake.impact()
    summary = fake.summary(table)
    show.screen.start({"model": "smollm2_135m", "dataset": fake.hostile})
    with show.screen.progress("heads", 3) as stage:
        stage.advance(3)
    show.screen.baseline(summary)
    show.table(summary["top"])
    show.screen.warn(fake.hostile)
    show.screen.files(tmp_path, ["report.html", "metrics/head_impact.parquet"])
    show.screen.next_command("report", tmp_path, "--open")
    show.screen.footer("mlflow ui")


def _rows(text):
    return [line.split() for line in text.splitlines() if re.match(r"\s+\d+\s+\d+\s+\d", line)]


def test_what_is_piped_has_no_control_codes_and_no_progress(fake, tmp_path):
    show = _Show()
    _all(show, fake, tmp_path)
    assert "\x1b" not in show.out + show.err
    assert "\r" not in show.out + show.err
    assert "3/3" not in show.err
    assert show.out.isascii()
    assert not any(line.endswith(" ") for line in show.out.splitlines())


def test_a_terminal_sees_progress_on_stderr_that_leaves_no_trace(fake, tmp_path):
    show = _Show(terminal=True)
    _all(show, fake, tmp_path)
    assert "3/3" in show.err
    assert "3/3" not in show.out
    assert show.err.rindex("\x1b[2K") > show.err.rindex("3/3")


def test_the_table_shows_the_numbers_that_it_was_given(fake):
    show = _Show()
    rows = fake.top(fake.impact())
    show.table(rows)
    shown = _rows(show.out)
    assert len(shown) == 10
    for cells, row in zip(shown, rows, strict=True):
        assert (int(cells[0]), int(cells[1]), float(cells[2])) == (row["layer"], row["head"], row["scale"])
        assert cells[3] == f"{row['delta']:+.3f}"
        assert cells[4] == f"{row['shrunken']:+.3f}"
        assert " ".join(cells[5:7]) == f"[{row['selected_low']:+.3f}, {row['selected_high']:+.3f}]"
        assert cells[7] == ("<0.001" if row["q_value"] < 0.001 else f"{row['q_value']:.3f}")
        assert cells[8] == f"{row['value']:.3f}"
    assert "540 tests" in show.out
    assert NULL in show.out


def test_columns_align(fake):
    show = _Show()
    show.table(fake.top(fake.impact(), 20))
    ends = {line.index("]") for line in show.out.splitlines() if "[" in line}
    assert len(ends) == 1


def test_what_is_unresolved_is_said_in_words(fake):
    show = _Show()
    row = fake.top(fake.impact(), 1)[0]
    rows = [row, {**row, "selected_low": -2.0, "selected_high": 0.0}]
    show.table(rows)
    lines = [line for line in show.out.splitlines() if "[" in line]
    assert [line.endswith("unresolved") for line in lines] == [False, True]
    assert "unresolved: the 95 % interval includes 0" in show.out


def test_where_draws_do_not_suffice_there_are_no_q_values_and_one_line_says_why(fake):
    show = _Show()
    why = "8 groups allow no p-value below 0.008"
    show.table(fake.top(fake.impact()), resolution=why)
    assert {cells[7] for cells in _rows(show.out)} == {"-"}
    assert show.out.count(why) == 1
    assert "false discovery rate" not in show.out


def test_missing_numbers_are_dashes():
    show = _Show()
    row = {"layer": 1, "head": 2, "scale": 0.0, "delta": 0.5, "ci_low": None, "ci_high": None, "value": 1.0}
    show.table([{**row, "q_value": None}], "kl_div", family_size=1)
    assert _rows(show.out) == [["1", "2", "0", "+0.500", "-", "-", "-", "1.000", "unresolved"]]


def test_no_rows_are_said_to_be_none():
    show = _Show()
    show.table([], "kl_div", family_size=0)
    assert "  none\n" in show.out


def test_the_baseline_shows_accuracy_and_the_primary_metric(fake):
    show = _Show()
    show.screen.baseline(fake.summary(fake.impact(2, 2)))
    assert "120 examples in 11 groups" in show.out
    assert re.search(r"accuracy +0\.742  \[0\.683, 0\.800\]", show.out)
    assert re.search(r"logit_diff +3\.412  \[3\.100, 3\.720\]  logits", show.out)


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_but_paths_and_commands_is_wider_than_the_terminal(fake, width):
    show = _Show(width=width)
    table = fake.impact()
    show.screen.start({"model": "a name " * 30})
    show.screen.baseline(fake.summary(table))
    show.table(fake.top(table), null=NULL * 5)
    assert max(map(len, show.out.splitlines())) <= width


def test_the_next_command_is_never_broken_and_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    show = _Show(width=40)
    show.screen.next_command("report", tmp_path / "runs" / ("my run " + "x" * 60), "--open")
    assert show.out.splitlines()[-1] == f"  tiny-ablate report 'runs/my run {'x' * 60}' --open"


@pytest.mark.parametrize("width", [80, 40])
def test_a_grid_that_is_too_wide_gives_names_lines_of_their_own(width):
    show = _Show(width=width)
    name = "a/long/name/of/a/condition"
    show.screen.grid("Conditions", "by p", [["condition", "done", "mean"], [name, "3/3", "-0.1"], ["b", "1/3", "+0.25"]])
    lines = show.out.splitlines()
    assert max(map(len, lines)) <= width
    assert lines[1] == "Conditions   by p"
    if width == 80:
        assert lines[3] == f"  {name}   3/3   -0.1"
    else:
        assert lines[4:6] == [f"  {name}", "     3/3   -0.1"]


def test_a_terminal_gets_warnings_in_whole_words_and_a_log_on_one_line():
    text = "word " * 40
    for terminal in (True, False):
        show = _Show(terminal=terminal)
        show.screen.warn(text.strip())
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in show.err.splitlines() if line]
        assert (len(lines) > 1) is terminal
        assert all(line.split(" ")[-1] in ("word", "") for line in lines)


def test_markup_and_escapes_in_names_have_no_effect(fake):
    show = _Show(terminal=True)
    show.screen.start({"dataset": "[red]x[/red] \x1b[31m\n"})
    assert "[red]x[/red] ?[31m?" in show.out
    assert "\x1b[31m" not in show.out


def test_quiet_shows_nothing_at_all(fake, tmp_path):
    show = _Show(terminal=True, quiet=True)
    _all(show, fake, tmp_path)
    assert show.out + show.err == ""


def test_no_color_and_columns_are_obeyed(fake, monkeypatch, capsys):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "50")
    screen = Screen()
    screen.start({"dataset": "word " * 30})
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 50
    assert "\x1b" not in out


def test_tables_fit_the_terminal(fake):
    """Numbers are never broken over two lines; of texts every word is shown."""
    show = _Show(terminal=True)
    rows = [
        row | {"delta": -1.25, "ci_low": -9.25, "ci_high": 1.5, "selected_low": -9.25, "selected_high": 1.5}
        for row in fake.top(fake.impact())
    ]
    show.table(rows)
    lines = re.sub(r"\x1b\[[\d;]*m", "", show.out).splitlines()
    assert sum(line.endswith("unresolved") for line in lines) == len(rows)
    assert max(map(len, lines)) <= 80
    show = _Show(terminal=True)
    prompts = [f"If you fly to number {i}, you land in the country of" for i in range(3)]
    show.screen.cells(
        "a caption", [["prompt", "attends to", "change"], *([p, "Wichita 0.29, in 0.26, to 0.14", "-12.345"] for p in prompts)]
    )
    text = re.sub(r"\x1b\[[\d;]*m", "", show.out)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("-12.345") == 3
    assert all(text.count(word) == 3 for word in ("Wichita", "0.14", "country", "fly"))
    assert all(line.startswith("  ") for line in text.splitlines() if line)
    show = _Show(terminal=True)
    show.screen.cells("a caption", [["a" * 12, *"bcdefgh"], *(["x" * 100, *7 * ["-12.345678"]] for _ in range(2))])
    text = re.sub(r"\x1b\[[\d;]*m", "", show.out)
    assert text.count("x") == 200  # no character is lost where not even broken cells fit
    assert text.count("8") == 14


def test_a_word_that_is_too_long_for_its_column_is_broken_and_not_cut():
    show = _Show(terminal=True, width=40)
    show.screen.cells("a caption", [["prompt", "right", "wrong"], ["The capital of the state is", *["Massachusetts-" * 2] * 2]])
    assert "…" not in show.out


def test_pairs_have_one_name_as_everywhere_else(fake):
    pair = {"layer_a": 0, "head_a": 1, "layer_b": 2, "head_b": 3}
    show = _Show()
    show.table(
        [
            pair | {name: value for name, value in row.items() if name not in ("layer", "head", "scale")}
            for row in fake.top(fake.impact())
        ]
    )
    assert "L0H1 + L2H3" in show.out
    assert "layer a" not in show.out
