"""The meaning of a partner's word for the state of an order. The owner lists which credit and which do not."""

COMPLETED, FAILED = "completed", "failed"  # the meanings, and the words in the lists by default


def meaning(word: str, completed: str, failed: str) -> str | None:
    """``completed`` or ``failed`` by two comma lists, in any case; None for a word in neither list, or in both."""
    found = [name for name, words in ((COMPLETED, completed), (FAILED, failed)) if plain(word) in words.split(",")]
    return found[0] if len(found) == 1 else None


def listed(value: str) -> str:
    """A comma list as the owner writes it, as it is stored. Raises ValueError when it names no word."""
    words = dict.fromkeys(word for word in map(plain, value.split(",")) if word)
    if not words:
        raise ValueError("name at least one word, several separated by commas")
    return ",".join(words)


def plain(word: str) -> str:
    """The form in which words are compared."""
    return word.strip().casefold()
