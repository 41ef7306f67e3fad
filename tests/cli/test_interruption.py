"""What an interrupted command says: what is true of the files, whichever moment it was."""

from pathlib import Path

import click
import pytest

from erasepro_convert.cli.interruption import reporting_interruption
from erasepro_convert.errors import InterruptedRunError


def said(*outputs: Path, kept: tuple[Path, ...] = (), write: tuple[Path, ...] = ()) -> str:
    """What is told of an interrupt after some files were written."""
    with pytest.raises(InterruptedRunError) as caught, reporting_interruption(*outputs, kept=kept):
        for path in write:
            path.parent.mkdir(exist_ok=True)
            path.write_text("new")
        raise KeyboardInterrupt
    return str(caught.value)


def test_files_that_are_others_than_before_are_named(tmp_path: Path) -> None:
    output, other, album = tmp_path / "a", tmp_path / "b", tmp_path / "album"
    output.write_text("old")
    assert said(output, other, write=(output,)) == f"wrote {output}"
    assert said(output, other, write=(output, other)) == f"wrote {output}, {other}"
    going_on = f"what was done before lies in {album}; run it again to continue"
    assert said(output, kept=(album,), write=(album / "1.png",)) == going_on
    assert said(output, kept=(album,), write=(album / "2.png",)) == going_on


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, click.Abort])
def test_where_nothing_was_written_the_interrupt_goes_on(
    interrupt: type[BaseException], tmp_path: Path
) -> None:
    """Files of an earlier run are none of this one's."""
    (tmp_path / "album").mkdir()
    for name in ("out", "album/1.png"):
        (tmp_path / name).write_text("old")
    with (
        pytest.raises(interrupt),
        reporting_interruption(tmp_path / "out", kept=[tmp_path / "album"]),
    ):
        raise interrupt
