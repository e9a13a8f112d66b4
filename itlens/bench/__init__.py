"""`itlens bench`: the benchmarks of all findings, as one table of ratios (`itlens.findings.benchmark`)."""
