"""Policies as data: the card networks' rules, and when declined payments are tried again."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pipeline.domain.networks import Networks, parse

FOLDER: Final = Path(__file__).parent
NETWORKS: Final[Networks] = parse((FOLDER / "networks.toml").read_text(encoding="utf-8"))
"""The card networks' rules of this version. A mistake in the file stops whatever imports it."""
