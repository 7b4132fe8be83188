"""What integration tests are written with: throwaway PostgreSQL servers, psql sessions, the tailrace process and a
reader of jsonl: folders. Standard library only. See ../README.md for how to use it."""

from .checks import CaseFailed, Test
from .jsonl import JsonlFolder, Problem
from .postgres import Postgres
from .processes import HarnessError, Timeout, temporary_folder, wait_until
from .psql import Session, SqlError, quote_identifier, quote_literal
from .tailrace import Result, Tailrace, run_tailrace, tailrace_binary

__all__ = [
    "CaseFailed", "HarnessError", "JsonlFolder", "Postgres", "Problem", "Result", "Session", "SqlError", "Tailrace",
    "Test", "Timeout", "quote_identifier", "quote_literal", "run_tailrace", "tailrace_binary", "temporary_folder",
    "wait_until",
]
