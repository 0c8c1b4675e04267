"""The settings in the environment."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Settings:
    """Read once by ``app.py``."""

    home: Path
    backups: Path  # folder of the scheduled ones
    master_key: str | None = field(repr=False)
    public_url: str
    trusted_proxies: int
    is_relaying: bool
    may_call_private: bool
    metrics_token: str | None = field(default=None, repr=False)
    follower: Path | None = None  # control socket of Litestream
    database: str | None = field(default=None, repr=False)  # URL; None: the SQLite file in home
    bind: str = ""  # where gunicorn listens, as far as the environment says it

    @property
    def is_local(self) -> bool:
        """Whether the public address leads to this machine alone, where no partner can call."""
        host = urlsplit(self.public_url).hostname or ""
        return host in ("localhost", "::1") or host.startswith("127.")
