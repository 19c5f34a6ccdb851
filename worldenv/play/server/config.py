"""Settings of a session server."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from ...base.config import check_numbers
from ...base.documents import read_text
from ...base.said import check_path

MAX_PORT = 2**16 - 1
MOST_TOKEN = 2**12
"""Bytes of a file that holds a token."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Where a server listens, what it serves, and how much of it."""

    worlds: tuple[str, ...] = ("maze",)
    """Packaged names, directories or hub:org/name; clients name a directory by its last part. The first is what they
    get where they name none."""
    host: str = "127.0.0.1"
    """Address to listen on. Any but a loopback one needs a token."""
    port: int = 8765
    """Port to listen on; 0 takes one that is free."""
    token_file: Path | None = None
    """File whose text every client must say. There is no TLS here: put a proxy, or ssh -L, in front."""
    origins: tuple[str, ...] = ()
    """Pages of other hosts that may connect, such as https://example.org; pages of this one always may."""
    device: str = "auto"
    """auto, cpu, cuda ..."""
    dtype: str = "auto"
    """auto, float32 or bfloat16."""
    batch: int = 16
    """Rows of an engine that sessions of one world and the same options share; more get another engine."""
    wait_ms: float = 8.0
    """How long a step waits for others to share a model call with, or a twentieth of what a call takes, if that is
    longer; one that has nobody to wait for does not."""
    max_sessions: int = 64
    """Sessions at a time."""
    max_rows: int = 256
    """Environments in all of them together."""
    max_connections: int = 64
    """Connections at a time."""
    idle_s: float = 900.0
    """Seconds after which a session that nobody asks anything ends, and a connection without sessions closes."""
    linger_s: float = 60.0
    """The longest that a session outlives its connection; clients ask for it."""
    max_message_mb: float = 16.0
    """The largest message that is read: a state to load, a picture."""
    max_pending_mb: float = 4.0
    """What may wait for a client to read it: beyond that frames are left out, and nothing more is read."""
    max_rate: float = 500.0
    """Messages per second of one connection; more are read later."""
    max_kept_mb: float = 128.0
    """Memory of a session for the chunks that one can go back to; the oldest are left out."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            counts=("batch", "max_sessions", "max_rows", "max_connections"),
            positive=("idle_s", "max_message_mb", "max_pending_mb", "max_rate", "max_kept_mb"),
            natural=("port", "wait_ms", "linger_s"),
        )
        if self.port > MAX_PORT:
            raise ValueError(f"port={self.port}: ports go up to {MAX_PORT}")
        if not self.worlds:
            raise ValueError("worlds: name at least one world")
        if len(self.named) != len(self.worlds):
            raise ValueError(f"worlds={self.worlds} have names in common; rename a directory")
        if not self.is_loopback and self.token_file is None:
            raise ValueError(
                f"host={self.host!r} is reached from other machines; pass token_file, a file that holds a secret: "
                "python -c 'import secrets; print(secrets.token_urlsafe())' > token"
            )

    @property
    def named(self) -> dict[str, str]:
        """Worlds by the name that clients use."""
        return {Path(world).name if check_path(world).is_dir() else world: world for world in self.worlds}

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def read_token(self) -> str:
        """Return the token, '' where none is asked for.

        Raises:
            ValueError: if the file cannot be read, or holds less than 16 characters.
        """
        if self.token_file is None:
            return ""
        try:
            token = read_text(self.token_file, most=MOST_TOKEN).strip()
        except ValueError as error:
            raise ValueError(f"token_file: {error}") from None
        if not 16 <= len(token) <= 256:
            raise ValueError(f"token_file {self.token_file} holds {len(token)} characters; a token has 16 to 256")
        return token
