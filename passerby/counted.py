"""Numbers with their noun: `1 gallery`, `2 galleries`."""


def counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
