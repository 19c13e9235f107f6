"""What the end-to-end tests and the demo stand on: processes, consoles, QMP, disks, the probe guest, Holdfast sites.

Python's standard library only. Every wait has a limit, and every process is ended by the pid it was started with.
"""
