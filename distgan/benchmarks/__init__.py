"""What `launch/bench.py` measures: a module a subcommand, each adding itself to the parser."""
