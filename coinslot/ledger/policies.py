"""The refund policy in a studio's settings: what the game is asked to take back, per reason and item."""

from collections.abc import Mapping
from dataclasses import dataclass

REASONS = ("refund", "chargeback")
IGNORE = "ignore"
BY_STRENGTH = ("flag", "revoke", "revoke_negative")  # mildest first


@dataclass(frozen=True)
class Policy:
    """What the game is asked to do for an item: ``revoke``, ``revoke_negative``, ``flag``, or ``ignore`` (nothing)."""

    by_reason: Mapping[str, str]
    by_item: Mapping[tuple[str, str], str]

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> "Policy":
        """The policy in a game's settings: that of the item, else that of the reason, else the default row."""
        default = "revoke" if settings.get("refunds.revoke") == "on" else IGNORE
        by_item = {
            (reason, key.removeprefix(f"refunds.{reason}.")): value
            for reason in REASONS
            for key, value in settings.items()
            if key.startswith(f"refunds.{reason}.") and value
        }
        return cls({reason: settings.get(f"refunds.{reason}") or default for reason in REASONS}, by_item)

    @classmethod
    def always(cls, word: str) -> "Policy":
        return cls(dict.fromkeys(REASONS, word), {})

    def for_line(self, reason: str, sku: str | None = None) -> str:
        """The policy for an item; None: for a purchase without items."""
        return self.by_item.get((reason, sku or "")) or self.by_reason[reason]
