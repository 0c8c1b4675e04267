"""The separator of a CSV file's cells: spreadsheets of many countries write semicolons or tabs."""

SEPARATORS = (",", ";", "\t", "|")


def declared(line: str) -> str | None:
    """The separator that a line declares (``sep=;``, as Excel writes it first); None for any other line."""
    text = line.removeprefix("\ufeff").strip("\r\n").strip('" ')
    return text[4:] if text[:4].lower() == "sep=" and text[4:] in SEPARATORS else None


def of(line: str) -> str:
    """The separator of a header line: the most frequent one outside of quotes; a comma if there is none."""
    bare = "".join(line.split('"')[::2])
    return max(SEPARATORS, key=bare.count)
