"""What storage costs: object stores, disks that seek, and shares, each made on this machine.

``python -m benchmarks.storage`` runs the cases; see ``benchmarks/README.md``.
"""
