"""Runs compared: which condition is better, by how much, and how sure that is.

    run directories -> analysis.analyze -> ReportResult -> writing.write_report -> report.md, report.html, ...

Nothing is read but the files of the runs, and nothing needs torch. docs/statistics.md says what is computed and why.
"""
