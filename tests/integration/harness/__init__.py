"""What integration tests are written with: throwaway PostgreSQL servers, psql sessions, the tailrace process and a
reader of jsonl: folders. Standard library only. See ../README.md for how to use it."""

from .checks import CaseFailed, Test
from .faults import Proxy, RubbishServer, fill_disk, small_disk
from .jsonl import JsonlFolder, Problem
from .memory import MemoryCgroup, PeakSampler, anonymous_bytes
from .postgres import Postgres
from .processes import HarnessError, Timeout, temporary_folder, wait_until
from .psql import Session, SqlError, quote_identifier, quote_literal
from .tailrace import Result, Tailrace, give_away, run_tailrace, tailrace_binary

__all__ = [
    "CaseFailed", "HarnessError", "JsonlFolder", "MemoryCgroup", "PeakSampler", "Postgres", "Problem", "Proxy", "Result",
    "RubbishServer", "Session", "SqlError", "Tailrace", "Test", "Timeout", "anonymous_bytes", "fill_disk", "give_away",
    "quote_identifier", "quote_literal", "run_tailrace", "small_disk", "tailrace_binary", "temporary_folder", "wait_until",
]
