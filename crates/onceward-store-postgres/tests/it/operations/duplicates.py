"""Many callers of the recipe at one key: `duplicates.py DSN ISOLATION CALLERS ID FINGERPRINT`, the last two in hex. Instead of a
number of callers: `alone`, which does not wait, or `failing`, whose effect fails.

Prints a line for each: what it was told. Half of them wait.
"""

import sys
import threading

import psycopg
from psycopg.errors import DeadlockDetected, SerializationFailure

from recipe import Busy, Mismatch, Refused, run_once

dsn, isolation, callers, id, fingerprint = sys.argv[1:]
id, fingerprint = bytes.fromhex(id), bytes.fromhex(fingerprint)
told = []


def effect(connection):
    row = connection.execute("INSERT INTO ledger (what) VALUES ('python') RETURNING id").fetchone()
    return "row", str(row[0]).encode()


def failing(connection):
    effect(connection)
    raise LookupError("undone")


def ask(effect, wait_ms, fingerprint=fingerprint):
    """Asks until the server does not want the transaction again."""
    names = {"kind": "charge", "path": "/payments", "key": "a"}
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel[isolation]
        while True:
            try:
                answer, ran = run_once(
                    connection, effect, id=id, fingerprint=fingerprint, wait_ms=wait_ms, **names
                )
                return f"{'ran' if ran else 'replayed'} {answer.decode()}"
            except (SerializationFailure, DeadlockDetected):
                continue
            except (Busy, Mismatch, Refused, LookupError) as error:
                return type(error).__name__


def call(nth):
    told.append(ask(effect, 25000 if nth % 2 == 0 else 0))


if callers == "failing":
    told.append(ask(failing, 0))
elif callers == "alone":
    told.append(ask(effect, 0))
else:
    threads = [threading.Thread(target=call, args=(nth,)) for nth in range(int(callers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.append(ask(effect, 0, bytes(32)))
print("\n".join(told))
