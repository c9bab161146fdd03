"""`python -m harness` is `wstal-bench`."""

from harness.cli.main import main

raise SystemExit(main())
