"""What one server takes from its clients. Every bound that keeps memory and time finite is here."""

from __future__ import annotations

from dataclasses import dataclass, fields

from maskrcnn.errors import ConfigError

MEGA = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Bounds of a server. Raises `ConfigError` for one that is not positive (`rate` may be 0)."""

    megabytes: float = 25
    """Of one request, all its files together; a phone's photograph has 3 to 15."""
    megapixels: float = 50
    """Of one image once it is decoded, 3 bytes each."""
    images: int = 16
    """In one request to /predict/batch."""
    uploads: int = 16
    """Requests being received or answered at a time; more are answered 503."""
    queue: int = 64
    """Images waiting for the network; more are answered 503."""
    batch: int | None = None
    """Images that go through the network together; None: 8 on a GPU, 1 on a CPU."""
    wait: float = 5
    """Milliseconds that a batch waits for more images."""
    rate: float = 50
    """Requests a second and client address, with as many again at once; 0: no limit."""
    upload_seconds: float = 30
    """In which a request must have arrived, headers as well as body."""
    seconds: float = 60
    """In which a request that has arrived must be answered."""
    connections: int = 256
    """Open at a time."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("rate", "wait") else 1 if field.type in ("int", "int | None") else 1e-3
            if value is not None and not least <= value < float("inf"):
                raise ConfigError(f"{value} must be at least {least:g}", field=field.name)

    @property
    def bytes(self) -> int:
        return int(self.megabytes * MEGA)

    @property
    def pixels(self) -> int:
        return int(self.megapixels * MEGA)
