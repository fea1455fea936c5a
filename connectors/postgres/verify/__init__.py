"""`payments verify`: the books computed anew from the log, and held against what Postgres has."""
