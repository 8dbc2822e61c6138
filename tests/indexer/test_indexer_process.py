"""The indexer as a process: what is pushed becomes searchable, whatever dies in between."""

from tests.indexer.conftest import Stack, picture


def test_a_pushed_batch_becomes_rows_names_and_kept_images(stack: Stack) -> None:
    stack.indexer.start()
    stack.push("people", {f"{i}.png": picture(i) for i in range(40)}, camera="gate")
    stack.drained()
    assert stack.rows("people") == 40
    assert len(stack.names("people")) == 40
    kept = [path.read_bytes() for path in (stack.folder / "kept").rglob("*") if path.is_file()]
    assert sorted(kept) == sorted(picture(i) for i in range(40))
    assert stack.letters() == []
    assert stack.indexer.end() == 0
