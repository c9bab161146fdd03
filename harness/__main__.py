"""`python -m harness` is `wstal-bench`."""

from harness.cli import main

raise SystemExit(main())
