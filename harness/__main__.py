"""Entry point of `python -m harness`, the same program as `wstal-bench`."""

from harness.cli.main import main

raise SystemExit(main())
