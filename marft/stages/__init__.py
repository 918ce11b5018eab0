"""Offline stages: `marft sft` and `marft dpo` train adapters on recorded episodes with TRL, `marft data` exports them.

sources.py reads episodes, values.py says what they and the nodes of a tree are worth, select.py and pairs.py choose
what is trained, export.py makes rows of texts of it (all pure), data.py writes those, bench.py carries adapters between
the bank and TRL, sft.py and dpo.py hand the recorded ids to TRL's trainers, stage.py writes the folder, commands.py is
the command line. TRL is imported inside functions only: without it, --dry-run and everything else of marft work.
"""
