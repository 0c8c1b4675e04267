"""What a partner's word for the state of an order means: the owner lists those that credit and those that do not."""

COMPLETED, FAILED = (
    "completed",
    "failed",
)  # both the meanings and the words that are listed unless the owner says otherwise


def meaning(word: str, completed: str, failed: str) -> str | None:
    """``completed`` or ``failed`` by two comma lists, any case; None for a word that is in neither, or in both."""
    said = [name for name, words in ((COMPLETED, completed), (FAILED, failed)) if plain(word) in words.split(",")]
    return said[0] if len(said) == 1 else None


def listed(value: str) -> str:
    """A comma list as the owner writes it, as it is stored. Raises ValueError when it names no word."""
    words = [plain(word) for word in value.split(",")]
    kept = list(dict.fromkeys(word for word in words if word))
    if not kept:
        raise ValueError("name at least one word, several separated by commas")
    return ",".join(kept)


def plain(word: str) -> str:
    """As words are compared."""
    return word.strip().casefold()
