"""The harness: data, runs, records, leaderboards, command line."""
